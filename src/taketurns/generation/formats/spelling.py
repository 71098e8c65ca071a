"""Does a format have an end, and can a vocabulary spell it?

Both are found by writing texts in the format, from its beginning: one that is found proves that
there is one. The first try prefers what closes strings, lists and objects; each further one prefers
another character of those that the format itself is written with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from time import thread_time
from typing import TYPE_CHECKING

import numpy as np

from taketurns.checkpoints.grammar_vocabulary import BYTES

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from taketurns.checkpoints.grammar_vocabulary import GrammarVocabulary

_CLOSING = b'"}]'  # in the order in which they are preferred
_PIECE = 24  # bytes of a missing piece that are shown
_LONGEST = 4096  # steps of the first try
_SHORT = 512  # and of each further one
_TRIES = 48
_NOTHING = "NoExtension"  # llguidance's word for a place where nothing can follow


@dataclass(frozen=True, slots=True)
class Search:
    """What was found: a whole text in the format, or None. Then, where every try came to a place
    where nothing could follow, `stuck` is what is missing and after which text, at the farthest of
    them. `error` is why the format cannot be followed at all."""

    text: bytes | None
    stuck: tuple[str, str] | None = None
    error: str | None = None


def search(
    start: Callable[[], LLMatcher],
    vocabulary: GrammarVocabulary,
    preferred: str,
    seconds: float,
    *,
    by_bytes: bool,
) -> Search:
    """Look for a text in the format from the states that `start` makes, in tokens of the
    vocabulary or, `by_bytes`, in any bytes. It takes so many `seconds` of processor time at most;
    characters of `preferred` are tried first, one in each try."""
    farthest: tuple[int, str, str] | None = None
    open_ended = False
    latest = thread_time() + seconds
    letters = sorted(set(preferred.encode("utf-8", "ignore")))
    for attempt in range(_TRIES):
        random = Random(attempt) if attempt else None
        letter = bytes([letters[attempt % len(letters)]]) if attempt and letters else b""
        matcher, text = start(), b""
        for _ in range(_SHORT if attempt else _LONGEST):
            if thread_time() > latest:
                return Search(None)
            if matcher.is_accepting():
                return Search(text)
            choices = _choices(matcher, vocabulary, by_bytes)
            if matcher.is_error() and _NOTHING not in matcher.get_error():
                return Search(None, error=matcher.get_error())
            if not choices:
                if farthest is None or len(text) > farthest[0]:
                    piece = wanted_next(matcher, vocabulary)
                    farthest = len(text), piece, text[-_PIECE:].decode("utf-8", "replace")
                break
            token, added = _prefer(choices, letter + _CLOSING, random)
            matcher.consume_token(token)
            text += added
        else:
            open_ended = True
    return Search(None, None if open_ended or farthest is None else farthest[1:])


def wanted_next(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> str:
    """What the format asks for next, quoted: the text that must come, or the characters of which
    one must."""
    matcher = matcher.deep_copy()
    forced = b""
    while len(forced) < _PIECE and len(wanted := _next_bytes(matcher, vocabulary)) == 1:
        forced += bytes(wanted)
        matcher.consume_tokens(vocabulary.spell(bytes(wanted)))
    if forced:
        return repr(forced.decode("utf-8", "replace"))
    return f"one of {bytes(wanted)[:_PIECE].decode('ascii', 'replace')!r}"


def _choices(
    matcher: LLMatcher, vocabulary: GrammarVocabulary, by_bytes: bool
) -> list[tuple[int, bytes]]:
    """The tokens that may come next, with their bytes."""
    if by_bytes:
        return [
            (vocabulary.size + byte, bytes([byte])) for byte in _next_bytes(matcher, vocabulary)
        ]
    ids = _allowed(matcher)
    return [(int(token), vocabulary.tokens[token]) for token in ids[ids < vocabulary.size]]


def _prefer(
    choices: Sequence[tuple[int, bytes]], preferred: bytes, random: Random | None
) -> tuple[int, bytes]:
    """The choice that is the first of the preferred bytes, or the longest, which leaves the least
    to be spelled; now and then another."""
    if random is not None and random.random() > 0.7:
        return random.choice(choices)
    single = {added: (token, added) for token, added in choices if len(added) == 1}
    for byte in preferred:
        if (chosen := single.get(bytes([byte]))) is not None:
            return chosen
    return max(choices, key=lambda choice: len(choice[1]))


def _next_bytes(matcher: LLMatcher, vocabulary: GrammarVocabulary) -> list[int]:
    """The bytes of which one may come next."""
    ids = _allowed(matcher) - vocabulary.size
    return [int(byte) for byte in ids if 0 <= byte < BYTES]


def _allowed(matcher: LLMatcher) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    return np.flatnonzero(bits)
