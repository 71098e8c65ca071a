"""Pairs of answers to a question, of which one is preferred: read from a file, or made of a team's
own answers and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from taketurns.errors import DataError
from taketurns.runs.records import InvalidLine, read_queries
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.types import Query

CHOSEN, REJECTED = "chosen", "rejected"  # their keys in a line


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to a query, as models would have written them; `chosen` is the better one."""

    query: Query
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Preferences:
    """The pairs of a team's answers. Of its `answers`, `unfinished` were cut off or not scored;
    the usable ones to `alike` questions all scored the same."""

    pairs: tuple[Preference, ...]
    answers: int
    unfinished: int
    questions: int
    alike: int


def read_preferences(path: Path) -> tuple[Preference, ...]:
    """The pairs of a file. Raises DataError for one that cannot be read, and for a line without a
    question or two different answers."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    pairs = []
    for query in read_queries(data, str(path)):
        if isinstance(query, InvalidLine):
            raise DataError(f"{path}:{query.line}: {query.reason}")
        answers = [query.metadata.get(key) for key in (CHOSEN, REJECTED)]
        texts = [answer for answer in answers if isinstance(answer, str) and answer]
        if len(set(texts)) < 2:
            raise DataError(
                f"{path}: the record {query.id!r} has no two answers to compare: give each line "
                f'the keys "text" (or "messages"), "{CHOSEN}" and "{REJECTED}", two different texts'
            )
        pairs.append(Preference(query, *texts))
    return tuple(pairs)


def compare(answers: Iterable[TeamAnswer]) -> Preferences:
    """The best answer to a question is paired with its worst one, the second best with the second
    worst, and so on while they differ in text and utility. An answer that did not end by itself is
    left out, since its end is none that should be learned."""
    ranked = sorted(answers, key=lambda answer: answer.trace.query.id)
    pairs: list[Preference] = []
    questions = alike = finished = 0
    for _, group in groupby(ranked, key=lambda answer: answer.trace.query.id):
        usable = [a for a in group if a.utility is not None and a.trace.finish == "stop"]
        finished += len(usable)
        questions += 1
        made = list(_pairs(usable))
        alike += not made
        pairs.extend(made)
    return Preferences(tuple(pairs), len(ranked), len(ranked) - finished, questions, alike)


def _pairs(answers: Sequence[TeamAnswer]) -> Iterator[Preference]:
    best = sorted(answers, key=lambda answer: -(answer.utility or 0.0))
    for good, bad in zip(best, reversed(best), strict=True):
        if (good.utility or 0.0) <= (bad.utility or 0.0):
            return
        if good.trace.text and bad.trace.text and good.trace.text != bad.trace.text:
            yield Preference(good.trace.query, good.trace.text, bad.trace.text)
