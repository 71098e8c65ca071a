"""A user's regular expression, searched in a growing text within a time limit.

Python's `re` may backtrack without limit and holds the interpreter lock meanwhile. `regex` reads
the same syntax, releases the lock, and has a time limit.
"""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import regex

from taketurns.errors import EngineError

SECONDS = 1.0  # for one expression and one text

# Parts of an expression whose match depends on at most one character before it.
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
_FARTHEST = 4096  # characters: a longer reach counts as unlimited
# `regex` reads these as a number of errors that are allowed.
_FUZZY = re.compile(r"(?<!\\)\{(?=[^}]*[sdie])[sdie0-9+<=, ]*(:[^}]*)?\}")


class Expression:
    """An expression in Python's syntax.

    `reach` is the number of characters before new text that a search of the new text needs, if the
    text before had no match; None means all of them. Raises re.error for an invalid expression.
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
        """Whether the expression matches in a text whose first `searched` characters have no match.
        Raises EngineError if the search exceeds the time limit."""
        first = 0
        if self.reach is not None and searched >= self.reach:
            first = searched - self.reach + 1  # a boundary looks at the character before it
        try:
            found = self._compiled.search(text, first, concurrent=True, timeout=SECONDS)
        except TimeoutError as error:
            raise EngineError(
                f"the guard's pattern {self.pattern!r} did not finish on {len(text)} characters "
                f"within {SECONDS:g} s: remove a repetition inside a repetition from it"
            ) from error
        return found is not None


def _reach(tree: Any) -> int | None:
    width = tree.getwidth()[1]
    if width > _FARTHEST or not _is_plain(tree):
        return None
    return int(width) + 1  # one more for the character before a boundary


def _is_plain(part: Any) -> bool:
    """Whether every part of an expression looks only at its own characters and at most at one
    character beside them."""
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
