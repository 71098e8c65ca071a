"""Finds calls in an answer while it is written.

A parser is a generator (`Pieces`) that reads from a `Feed` and yields what it finds, or None where
it needs more text. `ToolCallReader` drives it with the text of an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text that is no part of a call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call of the function `name`, number `index` of the answer."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """A piece of a call's arguments. All of them together are a JSON object; at every time they
    are the beginning of one."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call is complete."""

    index: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    """What had begun as a call is none: its arguments are no JSON, or were cut short. `source` is
    the answer's text from which its pieces came."""

    index: int
    source: str


Piece = TextPiece | CallStarted | ArgumentsPiece | CallEnded | CallFailed
Pieces = Iterator[Piece | None]


class Feed:
    """The text of an answer that is not yet read. `names` are the functions that may be called;
    of more than `most` calls the others stay text."""

    def __init__(self, names: Collection[str], most: int | None = None) -> None:
        self.names = frozenset(names)
        self.text = ""
        self.ended = False
        self.calls = 0
        self._most = most

    @property
    def full(self) -> bool:
        """No further call may be made."""
        return self._most is not None and self.calls >= self._most

    def take(self, count: int) -> str:
        """Read so many characters."""
        taken, self.text = self.text[:count], self.text[count:]
        return taken

    def start(self, name: str) -> CallStarted:
        """Begin the next call."""
        self.calls += 1
        return CallStarted(self.calls - 1, name)


class ToolCallReader:
    """Reads an answer with a parser: `push` its text, then `close`. White space between calls is
    left out."""

    def __init__(self, feed: Feed, pieces: Pieces) -> None:
        self._feed = feed
        self._pieces = pieces
        self.complete = 0
        self.failed = 0

    def push(self, text: str) -> list[Piece]:
        """What the text, after all before it, adds."""
        self._feed.text += text
        return self._resume()

    def close(self) -> list[Piece]:
        """What the end of the answer adds."""
        self._feed.ended = True
        pieces = self._resume()
        last = pieces[-1] if pieces else None
        if self.complete and isinstance(last, TextPiece) and not last.text.strip():
            del pieces[-1]
        return pieces

    def _resume(self) -> list[Piece]:
        pieces: list[Piece] = []
        for piece in self._pieces:
            if piece is None:
                break
            if piece != TextPiece(""):
                pieces.append(piece)
            self.complete += isinstance(piece, CallEnded)
            self.failed += isinstance(piece, CallFailed)
        return pieces


def plain_text(feed: Feed) -> Pieces:
    """All the text there is, without calls."""
    while True:
        yield TextPiece(feed.take(len(feed.text)))
        if feed.ended:
            return
        yield None


def held(text: str, marker: str) -> int:
    """How many characters at the end of a text may belong to a marker or to the space before
    it."""
    size = min(len(text), len(marker) - 1)
    begun = next((n for n in range(size, 0, -1) if text.endswith(marker[:n])), 0)
    before = text[: len(text) - begun]
    return begun + len(before) - len(before.rstrip())
