"""JSON files: read with limits, because any source may have written them; written atomically."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

from taketurns.utils.files import write_text

MAX_DEPTH = 100
"""The most nested lists and objects in JSON that is read."""


def read_json(path: Path) -> Any:
    """Read a file, which may have NaN and Infinity. Raises OSError and ValueError."""
    return parse_json(path.read_text(encoding="utf-8"), strict=False)


def write_json(path: Path, record: Any, *, indent: int = 1, ensure_ascii: bool = False) -> None:
    """Write a file atomically. Raises DataError."""
    write_text(path, json.dumps(record, indent=indent, ensure_ascii=ensure_ascii) + "\n")


def parse_json(data: str | bytes, *, strict: bool = True) -> Any:
    """Parse JSON with at most `MAX_DEPTH` nested lists and objects, so that recursive code can walk
    it. `strict` refuses NaN, Infinity and numbers too large for a float, which Python's own parser
    accepts. Raises ValueError."""
    try:
        if strict:
            value = json.loads(data, parse_constant=_no_constant, parse_float=_finite)
        else:
            value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    opened = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if sum(map(data.count, opened)) > MAX_DEPTH and _too_deep(value):  # type: ignore[arg-type]
        raise ValueError(
            f"nested too deeply: more than {MAX_DEPTH} lists and objects inside one another"
        )
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(one, list | dict) for one in level)


def _no_constant(word: str) -> None:
    raise ValueError(f"not JSON: {word} is not a number")


def _finite(word: str) -> float:
    number = float(word)
    if not isfinite(number):
        raise ValueError(f"the number {word} is too large")
    return number
