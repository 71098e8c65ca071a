"""What is wrong with the files of a model, found once a library has failed to load it.

Libraries trust these files: a broken or mistaken one ends in whatever error its first reader makes
of it, which names neither the file nor the key.
"""

from __future__ import annotations

from pathlib import Path

from taketurns.errors import one_line
from taketurns.utils.json_files import read_json

TOKENIZER, ADAPTER = "the tokenizer of", "the adapter"
"""What is loaded, where it is not a model."""
_MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json")
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
_ADAPTER_FILES = ("adapter_config.json",)
_READ_FIRST = {
    TOKENIZER: "its tokenizer.json, tokenizer_config.json or config.json",
    ADAPTER: "its adapter_config.json",
}
_TEMPLATE = "chat_template.jinja"
_VOCABULARIES = (
    "tokenizer.json",
    "*.model",
    "vocab*",
    "*.tiktoken",
    "tekken.json",
    "merges.txt",
    "*.gguf",
)
# What a program raises by mistake. What is raised on purpose has a sentence to go with it.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
)


def find_bad_file(folder: Path, what: str, *, whole: bool = True) -> str | None:
    """What is wrong with the first of the files in `folder` that `what` is read from and that
    cannot be read itself; None where all can. `whole`: there is nothing of it elsewhere."""
    for name in _files(what):
        path = folder / name
        if not path.is_file():
            continue
        try:
            value = read_json(path)
        except UnicodeDecodeError:
            return f"its {name} is not UTF-8; {_again(name)}"
        except ValueError as error:
            return f"its {name} is not valid JSON ({one_line(error)}); {_again(name)}"
        except OSError as error:
            return f"its {name} cannot be read: {error.strerror}"
        if not isinstance(value, dict):
            return f"its {name} is not a JSON object; {_again(name)}"
    if what == TOKENIZER:
        template = folder / _TEMPLATE
        try:
            if template.is_file():
                template.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return f"its {_TEMPLATE} is not UTF-8; {_again(_TEMPLATE)}"
        if whole and not any(any(folder.glob(pattern)) for pattern in _VOCABULARIES):
            return "it has no tokenizer.json and no other tokenizer file; " + _again("it")
    return None


def foreign(error: BaseException, what: str) -> str | None:
    """What an error means that a library did not raise on purpose; None for another."""
    if not isinstance(error, _MISTAKES) or isinstance(error, OSError):
        return None
    where = _READ_FIRST.get(what, "its config.json, or a setting for it,")
    return f"{where} has a value that cannot be used ({type(error).__name__}: {one_line(error)})"


def _files(what: str) -> tuple[str, ...]:
    if what == TOKENIZER:
        return (*_TOKENIZER_FILES, _MODEL_FILES[0])
    return _ADAPTER_FILES if what == ADAPTER else (*_MODEL_FILES, *_TOKENIZER_FILES)


def _again(name: str) -> str:
    return f"fetch or save {name} again"
