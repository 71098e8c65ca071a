"""A regular expression of somebody's own, looked for in a text that grows, in a limited time.

Python's `re` backtracks for as long as it likes and holds the interpreter meanwhile; `regex` reads
the same syntax, lets others run, and stops in time.
"""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import regex

from taketurns.errors import EngineError

SECONDS = 1.0  # for one expression and one text

# Which find the same wherever what is before them was cut off, but for a few characters.
_PLAIN = {
    codes.LITERAL,
    codes.NOT_LITERAL,
    codes.ANY,
    codes.IN,
    codes.RANGE,
    codes.CATEGORY,
    codes.NEGATE,
    codes.BRANCH,
    codes.SUBPATTERN,
    codes.MAX_REPEAT,
    codes.MIN_REPEAT,
    codes.POSSESSIVE_REPEAT,
    codes.ATOMIC_GROUP,
}
_BOUNDARIES = {codes.AT_BOUNDARY, codes.AT_NON_BOUNDARY}
_FARTHEST = 4096  # characters: a reach beyond is as good as none
# `regex` takes these for a number of errors that are allowed.
_FUZZY = re.compile(r"(?<!\\)\{(?=[^}]*[sdie])[sdie0-9+<=, ]*(:[^}]*)?\}")


class Expression:
    """An expression in Python's syntax. `reach` is how many characters before new text decide,
    beside the new text, whether it is found where it was not found without that; None: any number.

    Raises re.error for what is none.
    """

    def __init__(self, pattern: str) -> None:
        re.compile(pattern)
        if (fuzzy := _FUZZY.search(pattern)) is not None:
            raise re.error(f"write \\{fuzzy[0]} for the characters {fuzzy[0]}", pattern)
        self.pattern = pattern
        self.reach = _reach(parser.parse(pattern))
        try:
            self._compiled = regex.compile(pattern)
        except regex.error as error:
            raise re.error(str(error), pattern) from error

    def found_in(self, text: str, searched: int = 0) -> bool:
        """Whether it is found in a text in whose first `searched` characters it is not. Raises
        EngineError where that cannot be said in time."""
        first = 0
        if self.reach is not None and searched >= self.reach:
            first = searched - self.reach + 1  # the character before it is only looked at
        try:
            found = self._compiled.search(text, first, concurrent=True, timeout=SECONDS)
        except TimeoutError as error:
            raise EngineError(
                f"the guard's pattern {self.pattern!r} was not done with {len(text)} characters "
                f"within {SECONDS:g} s: write it with no repetition inside a repetition"
            ) from error
        return found is not None


def _reach(tree: Any) -> int | None:
    width = tree.getwidth()[1]
    if width > _FARTHEST or not _is_plain(tree):
        return None
    return int(width) + 1  # for what stands before a boundary


def _is_plain(part: Any) -> bool:
    """Whether all of an expression's parts look at their own characters, and at no more than one
    beyond."""
    if isinstance(part, parser.SubPattern | list):
        return all(map(_is_plain, part))
    if not isinstance(part, tuple) or not part:
        return True
    code, *inside = part
    if code is codes.AT:
        return inside[0] in _BOUNDARIES
    if isinstance(code, type(codes.AT)) and code not in _PLAIN:
        return False
    return all(map(_is_plain, part))
