"""A schema's validation error as one sentence with the file, the line and the cure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from math import isfinite, nan
from typing import Any

from pydantic import ValidationError

from taketurns.config.schema import keys_in
from taketurns.config.settings import shortened
from taketurns.config.yaml_document import Place, YamlDocument


def explain(
    document: YamlDocument, error: ValidationError, keys: Sequence[str] | None = None
) -> str:
    """The first error in a file, as one sentence. `keys` are the keys of a flat file; None means a
    team file."""
    first = error.errors()[0]
    place: Place = first["loc"]
    if first["type"] == "extra_forbidden":
        *parents, key = place
        inside = f" in {_dotted(parents)}" if parents else ""
        hint = suggest(str(key), keys or keys_in(parents), anywhere=not parents and keys is None)
        return f"{document.where(place)}: unknown key {str(key)!r}{inside}; {hint}"
    if first["type"] == "missing":
        *parents, key = place
        inside = _dotted(parents) or "the file"
        return f"{document.where(parents)}: {inside} needs the key {str(key)!r}"
    place, value = _existing(document.data, place)
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    what = _dotted(place) or "the file"
    spelling = _number_hint(value) if first["type"] in ("float_type", "int_type") else ""
    return f"{document.where(place)}: {what} {message}, not {shortened(value)}{spelling}"


def suggest(key: str, valid: Sequence[str], *, anywhere: bool = False) -> str:
    """A hint at the key that was probably meant: one of `valid` or, with `anywhere`, a key of the
    policy, because a policy's key may be set without its section."""
    near = get_close_matches(key, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if anywhere and (near := get_close_matches(key, keys_in(["policy"]), n=1, cutoff=0.5)):
        return f"did you mean {near[0]!r}, a key of policy?"
    return f"the keys are {', '.join(valid)}"


def _number_hint(value: Any) -> str:
    """How to write a number that YAML 1.1 reads as a string, such as 1e-1."""
    try:
        number = float(value) if isinstance(value, str) else nan
    except ValueError:
        return ""
    if not isfinite(number):
        return ""
    text = str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(number)
    return f"; write {text if '.' in text else text.replace('e', '.0e')}"  # YAML needs the dot


def _existing(data: Any, place: Place) -> tuple[Place, Any]:
    """The longest part of a place that is in the data, and its value. A union's place ends in the
    name of a type, which is not in the data."""
    for depth, part in enumerate(place):
        inside = isinstance(data, dict) and part in data
        if not inside and not (isinstance(data, list) and isinstance(part, int)):
            return place[:depth], data
        data = data[part]
    return place, data


def _dotted(place: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.lstrip(".")
