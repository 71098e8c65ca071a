"""Finds what is wrong with a model's files after a library has failed to load it.

Libraries do not check these files: a broken one causes an arbitrary error that names neither the
file nor the key.
"""

from __future__ import annotations

from pathlib import Path

from taketurns.errors import one_line
from taketurns.utils.json_files import read_json

TOKENIZER, ADAPTER = "the tokenizer of", "the adapter"
"""What is loaded, if it is not a model."""
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
# Exceptions that a program does not raise on purpose; others have a message that explains them.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
)


def find_bad_file(folder: Path, what: str, *, whole: bool = True) -> str | None:
    """What is wrong with the first unreadable file in `folder` of those that `what` is read from;
    None if all can be read. `whole`: all of its files are in this folder."""
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
    """A message for an error that a library did not raise on purpose; None for other errors."""
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
