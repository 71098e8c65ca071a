"""Multiple choice by the data's own keys: A to L, 1 to 4, or words.

`metadata["choices"]` maps a key to an option's text, the reference is a key. An answer names its
option by key or by text. It is searched in this order: the conclusion of the text (`reading.py`); a
key at its beginning, or a text that is a key; the only option in its last sentence, or in all of
it. Denied options do not count ("not B, but C"). A text that names several options and chooses none
is not parsed, nor is a bare number that is the key of one option and the text of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from taketurns.errors import DataError
from taketurns.tasks.scorers.base import unparsed
from taketurns.tasks.scorers.negation import affirmed, denies
from taketurns.tasks.scorers.numbers import number
from taketurns.tasks.scorers.reading import SENTENCE, bare, concluded, last_line, sentence
from taketurns.tasks.scorers.styling import answered, unprefaced, unstyled
from taketurns.tasks.scorers.units import unit_of
from taketurns.types import Query, Score

ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
WORDY = frozenset("AaIi")  # keys that are also words
LEAD = r"(?:option|choice|letter|answer|number)\s*:?\s*"
FORMAL = re.compile(r"(?:option|choice|letter)\s*:?\s*[(\[]?$", re.IGNORECASE)
POLAR = frozenset({"yes", "no", "true", "false", "maybe", "correct", "incorrect"})
VERDICTS = frozenset({"wrong", "incorrect", "false"})
BUT = re.compile(r"\s*(?:but|instead|rather)?[,;:\s]*", re.IGNORECASE)
CHOOSING = re.compile(
    r"(?:\b(?:is|be|option|answer|choice|choose|chose|pick|select|say|with|for|to|but)|[:=,]|^)\W*$",
    re.IGNORECASE,
)
CONFIRMED = (
    r"[)\]]?\s+(?:is|would be|must be|should be|seems|looks)\s+"
    r"(?:(?!wrong|incorrect|false|worst|least)\w+\s+){0,2}?(?:answer|correct|right|best|true)\b"
)


@dataclass(frozen=True)
class Choice:
    """1 for the option of the reference, else 0."""

    stored_name: ClassVar[str] = "Choice"

    name: str = "choice"
    version: ClassVar[int] = 2

    def check(self, query: Query) -> None:
        options = query.metadata.get("choices")
        if not isinstance(options, Mapping) or len(options) < 2:
            raise DataError("choices must map at least two keys to options")
        if not all(isinstance(text, str) for text in options.values()):
            raise DataError("choices must map every key to a text")
        if str(query.reference) not in options:
            keys = ", ".join(map(str, options))
            raise DataError(
                f"the reference must be a key of choices ({keys}), not {query.reference!r}"
            )

    def score(self, query: Query, answer: str) -> Score:
        options: Mapping[str, str] = query.metadata["choices"]
        key = chosen(options, answer)
        if key is None:
            return unparsed("no option is named, or several")
        right = str(query.reference)
        return Score(float(key == right or _norm(options[key]) == _norm(options[right])), key)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return chosen(query.metadata["choices"], answer)


def chosen(options: Mapping[str, str], answer: str) -> str | None:
    """The key of the option that an answer chooses; None if it chooses none."""
    answer = answered(answer)
    text = unstyled(answer).strip()
    conclusion = concluded(answer)
    last = SENTENCE.split(text.rstrip(".!? \n"))[-1] if text else ""
    if any(_two_fold(options, part) for part in (conclusion or "", text, last_line(text))):
        return None
    if conclusion is not None:
        key = _named(options, conclusion)
        if key is not None:
            return key
    plain = unprefaced(text)
    return (
        (_named(options, plain, whole=True) if not _enumerates(options, text) else None)
        or _polar(options, plain)
        or _named(options, last_line(text), whole=True)
        or _closing_key(options, affirmed(last))
        or _confirmed(options, affirmed(last))
        or _only(options, last)
        or _confirmed(options, affirmed(text))
        or _only(options, text)
    )


def _two_fold(options: Mapping[str, str], text: str) -> bool:
    """Is a text the key of one option and the text of another?"""
    plain = bare(text)
    return plain in options and any(
        bare(option) == plain and _norm(options[plain]) != _norm(plain)
        for key, option in options.items()
        if key != plain
    )


def _named(options: Mapping[str, str], text: str, *, whole: bool = False) -> str | None:
    """The option that a phrase names at its beginning. `whole`: only a delimiter may follow a bare
    key, and an option's text must be the whole phrase."""
    if whole:
        plain = bare(text)
        return _worded(options, plain) or _leading_key(options, plain, whole=True)
    if (key := _worded(options, bare(text))) is not None:
        return key
    plain = bare(BUT.sub("", affirmed(text), count=1))
    key = _worded(options, plain) or _leading_key(options, plain, whole=False)
    if key is not None:
        return key
    first = sentence(plain)
    return _worded(options, first) or _polar(options, plain) or _only(options, sentence(text))


def _polar(options: Mapping[str, str], text: str) -> str | None:
    """The one-word option, such as "Yes", at the beginning of a text, if punctuation or the end
    follows."""
    match = re.match(r"[^\w]*(\w+)[\s\"')*_]*(?:[.,;:!—–]|-\s|\n|$)", text)
    word = match[1].casefold() if match else ""
    if word not in POLAR:
        return None
    return next((key for key, option in options.items() if _norm(option) == word), None)


def _leading_key(options: Mapping[str, str], text: str, *, whole: bool) -> str | None:
    for key in sorted(options, key=len, reverse=True):
        lone = re.escape(key)
        bracketed = rf"(?:{LEAD})?[(\[{{]\s*{lone}\s*[)\]}}]"
        delimited = rf"(?:{LEAD})?{lone}(?:\s*[):]|\s*,(?!\d)|\s*[.!](?:\s|$)|\s*$)"
        if match := re.match(rf"{bracketed}|{delimited}", text, re.IGNORECASE):
            return None if _hedges(options, key, text[match.end() - 1 :]) else key
        led = re.match(rf"({LEAD}){lone}(?![\w'’]|[.,]\d)", text, re.IGNORECASE)
        begun = None if whole else re.match(rf"{lone}(?![\w'’]|[.,]\d)", text)
        for match in (led, begun):
            if match is None:
                continue
            doubtful = key in WORDY or (match is begun and key.isdigit())
            formal = match is led and FORMAL.fullmatch(match[1])
            if formal or not (doubtful and _continues(text[match.end() :])):
                return None if _hedges(options, key, text[match.end() :]) else key
    return None


def _enumerates(options: Mapping[str, str], text: str) -> bool:
    """Do lines begin with several keys? Then the text lists the options and chooses none."""
    keys = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    begun = re.findall(rf"^\s*[(\[]?({keys})[)\].:]", text, re.IGNORECASE | re.MULTILINE)
    return len({key.casefold() for key in begun}) > 1


def _hedges(options: Mapping[str, str], key: str, rest: str) -> bool:
    """Does the text offer another key together with this one, as in "B or C"?"""
    offered = re.match(r"[\s)\]]*(?:,|/|&|\bor\b|\band\b)+\s*(?:or |and )?[(\[]?(\w+)", rest)
    if offered is None or (offered[1] in WORDY and _continues(rest[offered.end() :])):
        return False
    return any(offered[1] == other for other in options if other != key)


def _closing_key(options: Mapping[str, str], text: str) -> str | None:
    """The capital letter or digit at the end of a sentence, if no other key is offered with it. A
    digit does not count if options are numbers."""
    match = re.search(r"(?:^|[\s,:])[(\[\"'“]?([A-Z]|\d)\W*$", text)
    if match is None or match[1] not in options:
        return None
    if match[1].isdigit() and any(number(bare(option)) for option in options.values()):
        return None
    if (match[1] in WORDY or match[1].isdigit()) and not CHOOSING.search(text[: match.start(1)]):
        return None
    beside = re.search(r"(\w+)[)\]]*\s*(?:,|/|&|\bor\b|\band\b)+\s*\W*$", text[: match.start(1)])
    return None if beside and beside[1] in options else match[1]


def _confirmed(options: Mapping[str, str], text: str) -> str | None:
    """The one key that the text calls right, as in "B is correct"."""
    keys = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    confirmed = set(re.findall(rf"(?<![\w'’])({keys}){CONFIRMED}", text))
    return confirmed.pop() if len(confirmed) == 1 else None


def _continues(rest: str) -> bool:
    """Was an "A" or "I" before this a word, not a key? It was if another word follows."""
    return re.match(r"\s+\w", rest) is not None and not re.match(
        r"\s+(?:because|since|as|is|and|which)\b", rest
    )


def _only(options: Mapping[str, str], text: str) -> str | None:
    """The one option that a text names, by a key in brackets or by its words; None if there is
    none or more than one. An option within a longer named option does not count."""
    if marked := _marked(options, affirmed(text)):
        return marked.pop() if len(marked) == 1 else None
    whole = _norm(text)
    kept = affirmed(whole, verdicts=VERDICTS.isdisjoint(map(_norm, options.values())))
    spans: dict[str, list[tuple[int, int]]] = {}
    for key, option in options.items():
        if needle := _norm(option):
            hay = whole if denies(needle) else kept
            spans[key] = [
                match.span()
                for match in re.finditer(rf"(?<![\w.]){re.escape(needle)}(?!\w|[.,]\d)", hay)
            ]
    named = {
        key
        for key, places in spans.items()
        for start, end in places
        if not any(
            left <= start and end <= right and right - left > end - start
            for others in spans.values()
            for left, right in others
        )
    }
    return named.pop() if len(named) == 1 else None


def _marked(options: Mapping[str, str], text: str) -> set[str]:
    """The keys in brackets, and those after "option" or a similar word."""
    keys = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    matches = re.finditer(
        rf"[(\[]({keys})[)\]]|\b({LEAD}[(\[]?)({keys})(?![\w'’]|[.,]\d)", text, re.IGNORECASE
    )
    return {
        next(key for key in options if key.casefold() == (match[1] or match[3]).casefold())
        for match in matches
        if match[1]
        or FORMAL.search(match[2])
        or match[3].upper() not in WORDY
        or not _continues(text[match.end() :])
    }


def _worded(options: Mapping[str, str], text: str) -> str | None:
    """The option with the same words or the same number as a text, with the same unit if both have
    one. A bare number that is a key is read as a key."""
    if text in options and not any(bare(option) == text for option in options.values()):
        return text  # "D" is the key D, even if the text of another option is "d"
    normal = _norm(text)
    for key, option in options.items():
        if normal and normal == _norm(option):
            return key
    value = number(text)
    if value is None:
        return None
    unit = unit_of(text)
    same = [
        key
        for key, option in options.items()
        if number(bare(option)) == value
        and (
            unit == unit_of(bare(option))
            or not unit_of(bare(option))
            or not (unit or normal in options)
        )
    ]
    return same[0] if len(same) == 1 else None


def _norm(text: str) -> str:
    """A text without case, extra spaces, styling and leading article; inner punctuation stays."""
    plain = " ".join(bare(text).casefold().split())
    return ARTICLE.sub("", plain) or plain
