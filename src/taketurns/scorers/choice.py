"""Multiple choice by the data's own keys, whatever they are: A to L, 1 to 4, or words.

`metadata["choices"]` maps a key to an option's text, the reference is a key. An answer names its
option by key or by text. What it concludes comes first (`reading.py`); then a text that begins
with a key, or is one; then the only option that its last sentence, or all of it, names. A text
that names several and chooses none is not parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from taketurns.errors import DataError
from taketurns.scorers.base import unparsed
from taketurns.scorers.numbers import number
from taketurns.scorers.reading import SENTENCE, STARS, bare, concluded, last_line, sentence
from taketurns.types import Query, Score

ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
WORDY = frozenset("AaIi")  # keys that are words too
UNITS = re.compile(r"[^\W\d_]|%")
LEAD = r"(?:option|choice|letter|answer|number)\s*:?\s*"
AFTERWARDS = re.compile(r",?\s*\b(?:not|rather than|instead of)\b.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """Full for the option that the reference names."""

    name: str = "choice"

    def check(self, query: Query) -> None:
        options = query.metadata.get("choices")
        if not isinstance(options, Mapping) or len(options) < 2:
            raise DataError("choices must map at least two keys to options")
        if not all(isinstance(text, str) for text in options.values()):
            raise DataError("choices must map keys to texts")
        if str(query.reference) not in options:
            keys = ", ".join(map(str, options))
            raise DataError(
                f"the answer {query.reference!r} is no key of choices, which are {keys}"
            )

    def score(self, query: Query, answer: str) -> Score:
        options: Mapping[str, str] = query.metadata["choices"]
        key = chosen(options, answer)
        if key is None:
            return unparsed("no option is named, or several")
        right = str(query.reference)
        return Score(float(key == right or _norm(options[key]) == _norm(options[right])), key)

    def said(self, query: Query, answer: str) -> str | None:
        return chosen(query.metadata["choices"], answer)


def chosen(options: Mapping[str, str], answer: str) -> str | None:
    """The key of the option that an answer chooses; None if it does not."""
    text = STARS.sub("", answer).strip()
    conclusion = concluded(answer)
    if conclusion is not None:
        found = _named(options, conclusion)
        if found is not None:
            return found
    last = SENTENCE.split(text.rstrip(".!? \n"))[-1] if text else ""
    return (
        (_named(options, text, whole=True) if not _enumerates(options, text) else None)
        or _named(options, last_line(text), whole=True)
        or _closing_key(options, last)
        or _only(options, last)
        or _only(options, text)
    )


def _named(options: Mapping[str, str], text: str, *, whole: bool = False) -> str | None:
    """The option a phrase names at its beginning. `whole`: nothing but a delimiter may follow a
    bare key, and a text must be all there is."""
    plain = bare(AFTERWARDS.sub("", text) if not whole else text)
    key = _worded(options, plain) or _leading_key(options, plain, whole=whole)
    if key is not None or whole:
        return key
    first = sentence(plain)
    return _worded(options, first) or _only(options, first)


def _leading_key(options: Mapping[str, str], text: str, *, whole: bool) -> str | None:
    for key in sorted(options, key=len, reverse=True):
        lone = re.escape(key)
        bracketed = rf"(?:{LEAD})?[(\[{{]\s*{lone}\s*[)\]}}]"
        delimited = rf"(?:{LEAD})?{lone}(?:\s*[):,]|\s*\.(?:\s|$)|\s*$)"
        if match := re.match(rf"{bracketed}|{delimited}", text, re.IGNORECASE):
            return None if _hedges(options, key, text[match.end() - 1 :]) else key
        led = re.match(rf"{LEAD}{lone}(?![\w'’])", text, re.IGNORECASE)
        begun = None if whole else re.match(rf"{lone}(?![\w'’])", text)
        for match in (led, begun):
            if match and not (key in WORDY and _continues(text[match.end() :])):
                return None if _hedges(options, key, text[match.end() :]) else key
    return None


def _enumerates(options: Mapping[str, str], text: str) -> bool:
    """Whether lines begin with several keys: the options are gone through, not chosen."""
    keys = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    begun = re.findall(rf"^\s*[(\[]?({keys})[)\].:]", text, re.IGNORECASE | re.MULTILINE)
    return len({key.casefold() for key in begun}) > 1


def _hedges(options: Mapping[str, str], key: str, rest: str) -> bool:
    """Whether another key is offered beside this one."""
    offered = re.match(r"[\s)\]]*(?:,|/|&|\bor\b|\band\b)+\s*(?:or |and )?[(\[]?(\w+)", rest)
    if offered is None or (offered[1] in WORDY and _continues(rest[offered.end() :])):
        return False
    return any(offered[1] == other for other in options if other != key)


def _closing_key(options: Mapping[str, str], text: str) -> str | None:
    """The capital letter that a sentence ends in."""
    found = re.search(r"(?:^|[\s,:])([A-Z])\W*$", text)
    return found[1] if found and found[1] in options else None


def _continues(rest: str) -> bool:
    """Whether an "A" or "I" before this was a word: the next thing is a word too."""
    return re.match(r"\s+\w", rest) is not None and not re.match(
        r"\s+(?:because|since|as|is|and|which)\b", rest
    )


def _only(options: Mapping[str, str], text: str) -> str | None:
    """The one option that a text names, by a key in brackets or by its words; None if there is
    none or more than one. An option inside a longer one that is named is not itself named."""
    keys = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    marked = {
        next(key for key in options if key.casefold() == found.casefold())
        for found in re.findall(
            rf"[(\[]({keys})[)\]]|\b{LEAD}[(\[]?({keys})(?!\w)", text, re.IGNORECASE
        )
        for found in found
        if found
    }
    if marked:
        return marked.pop() if len(marked) == 1 else None
    hay = _norm(text)
    spans: dict[str, list[tuple[int, int]]] = {}
    for key, option in options.items():
        needle = _norm(option)
        if needle:
            spans[key] = [
                match.span()
                for match in re.finditer(rf"(?<![\w.]){re.escape(needle)}(?!\w|[.,]\d)", hay)
            ]
    named = {
        key
        for key, mine in spans.items()
        for start, end in mine
        if not any(
            left <= start and end <= right and right - left > end - start
            for theirs in spans.values()
            for left, right in theirs
        )
    }
    return named.pop() if len(named) == 1 else None


def _worded(options: Mapping[str, str], text: str) -> str | None:
    """The option whose words, or whose bare number, a text is."""
    said = _norm(text)
    for key, option in options.items():
        if said and said == _norm(option):
            return key
    value = number(text) if not UNITS.search(text) else None
    same = [
        key
        for key, option in options.items()
        if value is not None and not UNITS.search(option) and number(bare(option)) == value
    ]
    return same[0] if len(same) == 1 else None


def _norm(text: str) -> str:
    """Case, spacing, dress and a leading article left aside; punctuation inside stays."""
    plain = " ".join(bare(text).casefold().split())
    return ARTICLE.sub("", plain) or plain
