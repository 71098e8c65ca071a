"""An answer's format as vLLM is asked for it, from the answer's beginning or in the middle of a
choice."""

from __future__ import annotations

import json
import re
from typing import Any

from taketurns.errors import FormatError
from taketurns.types import TokenConstraint

PROBE = ("1", "2")
"""Choices by which a server shows that it keeps to formats."""


def format_field(constraint: TokenConstraint, patch: bytes) -> dict[str, Any]:
    """The field that asks for the rest of an answer, of which `constraint.written` and then `patch`
    are written. Raises FormatError where a server cannot go on from there."""
    answer_format, written = constraint.format, constraint.written + patch
    if answer_format.kind == "choice":
        rest = _rest(json.loads(answer_format.value), written.decode("utf-8", "replace"))
        return {"structured_outputs": {"regex": rest}}
    if written:
        raise FormatError(
            f"a server broke off inside an answer with a format of kind {answer_format.kind}, and "
            "none can go on in the middle of one: ask again"
        )
    value: Any = answer_format.value
    if answer_format.kind == "json":
        value = json.loads(value)
    return {"structured_outputs": {answer_format.kind: value}}


def _rest(choices: list[str], written: str) -> str:
    """A regular expression for what may follow."""
    left = {text[len(written) :] for text in choices if text.startswith(written)}
    alternatives = "|".join(re.escape(text) for text in sorted(left) if text)
    return f"({alternatives})?" if "" in left else f"({alternatives})"
