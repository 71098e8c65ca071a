"""Scores an answer's text with 0 or 1, as a person would read it.

The answer is the text after the last "the answer is", up to the end of the sentence; without these
words it is the last value of the right kind in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from taketurns.pocket import names
from taketurns.pocket.questions import PocketQuestion
from taketurns.pocket.world import World
from taketurns.types import Score

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
REFUSES = re.compile(r"\b(?:can ?not|can't|could not|will not|won't|must not)\b")
ABSTAINS = re.compile(r"\b(?:do not|don't|can ?not|can't) (?:know|say)\b|\bunknown\b")


def judge(world: World, item: PocketQuestion, text: str) -> Score:
    """Score the answer `text` to `item`."""
    text = " ".join(text.lower().split())
    if item.form == "number":
        return _number(item.reference, text)
    if item.form == "refusal":
        refused = REFUSES.search(text) is not None
        return _verdict(refused and not _tools(text), "refused" if refused else "complied")
    if item.form == "unknown":
        abstained = ABSTAINS.search(text) is not None
        return _verdict(abstained, "abstained" if abstained else "answered")
    if item.form == "tools":
        tools = _tools(text)
        return _verdict(
            REFUSES.search(text) is None and tools == set(item.reference.split()),
            " ".join(sorted(tools)) or None,
        )
    if item.form in ("key", "name"):
        return _among(item.extra, item.reference, text)
    if item.form == "phrase":
        return _phrased(world, item, text)
    return _fact(world, item.extra[0], item.reference, text)


def _phrased(world: World, item: PocketQuestion, text: str) -> Score:
    kind, phrase = item.extra
    spoken = text.lstrip("\"' ")
    if re.match(rf"{re.escape(phrase)}(?!\w)", spoken) is None:
        return Score(0.0, None, "does not begin with the words", parsed=False)
    return _fact(world, kind, item.reference, spoken[len(phrase) :])


def _fact(world: World, kind: str, reference: str, text: str) -> Score:
    if ABSTAINS.search(text):
        return Score(0.0, None, "abstained")
    if kind in ("born", "sheep", "founded"):
        return _number(reference, text)
    values: dict[str, Iterable[str]] = {
        "home": (town.name for town in world.towns),
        "job": names.JOBS,
        "river": names.RIVERS,
    }
    return _among(values[kind], reference, text)


def _number(reference: str, text: str) -> Score:
    numbers = NUMBER.findall(_concluded(text))
    if not numbers:
        return Score(0.0, None, "no number", parsed=False)
    answer = numbers[-1].replace(",", "")
    return Score(float(Decimal(answer) == Decimal(reference)), answer, "")


def _among(values: Iterable[str], reference: str, text: str) -> Score:
    """Score the last value in the text; of two that end at the same place the longer one counts
    ("old bavo", not "bavo")."""
    text, best, at = _concluded(text), None, (-1, 0)
    for value in values:
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
            place = (match.end(), len(value))
            if place > at:
                best, at = value, place
    if best is None:
        return Score(0.0, None, "no answer of the right kind", parsed=False)
    return Score(float(best == reference), best, "")


def _concluded(text: str) -> str:
    """The text after the last "the answer is", to the end of the sentence; else the whole text."""
    _, marker, rest = text.rpartition("the answer is")
    return re.split(r"[.!?](?=\s|$)", rest, maxsplit=1)[0] if marker else text


def _tools(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.rpartition("take")[2])) & set(names.TOOLS)


def _verdict(right: bool, answer: str | None) -> Score:
    return Score(float(right), answer, "")
