"""Loads the tokenizer that the files of a model, or of its adapter, describe."""

from __future__ import annotations

import warnings
from copy import copy
from pathlib import Path
from typing import Any

from taketurns.checkpoints import gguf, hub
from taketurns.checkpoints.diagnosis import TOKENIZER as WHAT
from taketurns.types import ModelSpec

_FILE, _TEMPLATE = "tokenizer.json", "chat_template.jinja"
# A folder with one of these files has a tokenizer.
_MARKS = (_FILE, "tokenizer_config.json", "tokenizer.model")

# A line on which differing tokenizers disagree: numbers, spaces, punctuation, other scripts.
LINE = "Don't  count: 12345 + 6.7 = naïve?\n\tI'll say “Zoë” 東京 <b>x_y</b> 🙂  "


def load_tokenizer(spec: ModelSpec) -> tuple[Any, str | None]:
    """The tokenizer of a model, without weights, and a note about its origin for the user, if any.
    Raises ConfigError if there is no tokenizer."""
    from transformers import AutoTokenizer

    source, revision = _source(spec)
    in_gguf = spec.gguf_file is not None and spec.tokenizer is None and source == spec.model
    with hub.loading(WHAT, source, revision) as where:
        if in_gguf:
            tokenizer, note = _from_gguf(spec), None
        elif source == spec.adapter and hub.fetch(WHAT, source, _FILE) is not None:
            tokenizer, note = _from_file(source, where), None  # an adapter has no config.json
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                source, trust_remote_code=spec.trust_remote_code, **where
            )
            tokenizer, note = _as_its_file_has_it(tokenizer, source, revision, where)
    template = spec.template or _template_of_the_adapter(spec)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer, note


def _from_gguf(spec: ModelSpec) -> Any:
    """A copy of the tokenizer in a GGUF file, whose template may be changed."""
    return copy(_read_gguf(gguf.read(spec).path))


@gguf.once
def _read_gguf(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


def _source(spec: ModelSpec) -> tuple[str, str | None]:
    """The place and revision of the tokenizer; an adapter's own comes before its model's."""
    adapter = spec.adapter if spec.tokenizer is None else None
    if adapter is not None and any(_of_the_adapter(adapter, name) for name in _MARKS):
        return adapter, None
    return spec.tokenizer_source


def _template_of_the_adapter(spec: ModelSpec) -> str | None:
    if spec.adapter is None or spec.tokenizer is not None:
        return None
    file = _of_the_adapter(spec.adapter, _TEMPLATE)
    return None if file is None else file.read_text(encoding="utf-8")


def _of_the_adapter(adapter: str, name: str) -> Any:
    try:
        return hub.fetch("the adapter", adapter, name)
    except hub.NoModelError:
        return None  # loading the adapter reports it; on a server it need not be here


def _as_its_file_has_it(
    tokenizer: Any, source: str, revision: str | None, where: dict[str, Any]
) -> tuple[Any, str | None]:
    """The tokenizer, or the one of tokenizer.json if the class that transformers chose splits text
    differently from it; and a note about that."""
    file = hub.fetch(WHAT, source, _FILE, revision)
    kind = type(tokenizer)
    if file is None or not kind.__module__.startswith("transformers."):
        return tokenizer, None  # the model's own code is trusted
    from tokenizers import Tokenizer

    filed = Tokenizer.from_file(str(file))
    if _agree(tokenizer, filed):
        return tokenizer, None
    plain = _from_file(source, where)
    if _agree(plain, filed):
        return plain, (
            f"its tokenizer is read from its {_FILE} alone; the {kind.__name__} that transformers "
            "makes of it splits text differently"
        )
    note = f"its {kind.__name__} splits text differently from its {_FILE}"
    warnings.warn(f"{source}: {note}", stacklevel=2)
    return tokenizer, note


def _from_file(source: str, where: dict[str, Any]) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(source, **where)


def _agree(tokenizer: Any, filed: Any) -> bool:
    filed.no_truncation()
    filed.no_padding()
    try:
        ids = filed.encode(LINE, add_special_tokens=False).ids
    except Exception:  # it has no token for unknown words
        return True
    tokens: list[int] = tokenizer.encode(LINE, add_special_tokens=False)
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return tokens == ids and text == str(filed.decode(ids, skip_special_tokens=False))
