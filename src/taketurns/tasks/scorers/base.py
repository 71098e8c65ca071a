"""The protocol of a scorer: from a query and the text of an answer to a Score.

A scorer does not know tasks, files or splits. The query has what it compares with: the `reference`,
and further values in the metadata. `check` finds missing values when a task is loaded, so that no
run fails half way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Protocol, runtime_checkable

from taketurns.types import Query, Score
from taketurns.utils.finite import finite_or_none


class Scorer(Protocol):
    """Scores one answer. `name` is its name in tasks and reports.

    A scorer may have a `version`, an integer from 1 (the default): it must be increased whenever
    some answer gets another score than before; stored scores of an older version are made again.
    `stored_name` is the name of its class in stored scores (`identity`).
    """

    @property
    def name(self) -> str: ...

    def check(self, query: Query) -> None:
        """Raise DataError, which names the field, if the query lacks a value that the scorer
        needs."""
        ...

    def score(self, query: Query, answer: str) -> Score:
        """A value in 0..1; `parsed` is False if the text has no answer of the right kind."""
        ...

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The canonical form of an answer, by which votes are counted: equal texts for answers with
        the same content, None if it has none. `query` comes without its reference, which votes must
        not use."""
        ...


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A scorer that scores many answers at once at a lower cost than one by one."""

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> Sequence[Score]:
        """The result of `score` for each, in order."""
        ...


@runtime_checkable
class GroupScorer(Scorer, Protocol):
    """A scorer that scores several answers to one query together."""

    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        """A score for each answer, in order."""
        ...


@runtime_checkable
class MeasuringScorer(Scorer, Protocol):
    """A scorer with measures over a whole run."""

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """Measures by name."""
        ...


FIRST = 1
"""The version of a scorer without a `version`."""


def version_of(scorer: object) -> int:
    """A scorer's version."""
    return int(getattr(scorer, "version", FIRST))


def identity(scorer: object) -> str:
    """The key of stored scores: the scorer's stored name, its settings, and its version if that is
    above 1.

    The stored name is the class's `stored_name`, else the name of the class; the same holds for
    scorers among the settings. A renamed class keeps its old name as `stored_name`, so that stored
    answers are still found.
    """
    version = version_of(scorer)
    return _with_settings(scorer) + ("" if version == FIRST else f" version {version}")


def _with_settings(scorer: object) -> str:
    """The `repr` of a dataclass, but with the stored name. A subclass does not inherit the stored
    name, because it may score differently."""
    name = vars(type(scorer)).get("stored_name")
    if not is_dataclass(scorer):
        return str(name or type(scorer).__qualname__)
    if name is None:
        return repr(scorer)
    settings = {f.name: getattr(scorer, f.name) for f in fields(scorer) if f.repr}
    written = (
        f"{key}={_with_settings(value) if is_dataclass(value) else repr(value)}"
        for key, value in settings.items()
    )
    return f"{name}({', '.join(written)})"


def version_with(*parts: object) -> int:
    """The version of a scorer made of others: it increases with each of their versions."""
    return FIRST + sum(version_of(part) - FIRST for part in parts)


def sound(score: Score) -> Score:
    """The score with None for numbers that are NaN or infinite; if the value is one, `why` says so.
    A user's scorer may return NaN, which would make every mean NaN."""
    value = finite_or_none(score.value)
    why = score.why if value == score.value else f"the scorer gave {score.value}, not a number"
    return replace(
        score,
        value=value,
        why=why,
        raw=finite_or_none(score.raw),
        confidence=finite_or_none(score.confidence),
    )


UNPARSED = "no answer of the right kind"
EMPTY_ANSWER = "the answer is empty"


def unparsed(why: str = UNPARSED) -> Score:
    """The score of a text without an answer of the right kind: wrong."""
    return Score(0.0, None, why, parsed=False)
