"""What a scorer is: a query and an answer's text in, a Score out.

A scorer knows nothing of tasks, files or splits. What it compares with stands in the query: the
`reference`, and what else it needs in the metadata. `check` says at loading what is missing, so
that no run fails half way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Protocol, runtime_checkable

from taketurns.types import Query, Score
from taketurns.utils.finite import finite_or_none


class Scorer(Protocol):
    """Judges one answer. `name` is how tasks and reports call it.

    A scorer may have a `version`, a whole number from 1: it is raised whenever some answer gets
    another score than before, and stored scores of an older one are made anew. One without is of
    version 1. `stored_name` is what stored scores call its class (`identity`).
    """

    @property
    def name(self) -> str: ...

    def check(self, query: Query) -> None:
        """Raise DataError naming the field if the query lacks what this scorer compares with."""
        ...

    def score(self, query: Query, answer: str) -> Score:
        """A value in 0..1; `parsed` False where the text holds no answer of the right kind."""
        ...

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """What an answer comes to, as votes are counted: the same text for answers that say the
        same, None where there is no such thing. `query` comes without its reference, which no
        vote may know."""
        ...


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A scorer that judges many answers at once cheaper than one by one."""

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> Sequence[Score]:
        """What `score` gives for each, in order."""
        ...


@runtime_checkable
class GroupScorer(Scorer, Protocol):
    """A scorer that judges several answers to one query beside each other."""

    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        """A score for each answer, in order."""
        ...


@runtime_checkable
class MeasuringScorer(Scorer, Protocol):
    """A scorer with figures of its own over a whole run."""

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """Figures by name."""
        ...


FIRST = 1
"""The version of a scorer that names none."""


def version_of(scorer: object) -> int:
    """A scorer's version."""
    return int(getattr(scorer, "version", FIRST))


def identity(scorer: object) -> str:
    """What stored scores are known by: a scorer's name in them, its settings, and its version from
    the second on.

    The name is what the class gives as `stored_name`, else its own, and so for scorers among the
    settings. A class that is renamed keeps the name of before as its `stored_name`: then every
    stored answer is found.
    """
    version = version_of(scorer)
    return _with_settings(scorer) + ("" if version == FIRST else f" version {version}")


def _with_settings(scorer: object) -> str:
    """As `repr` writes a dataclass, but for the class's name. A subclass does not inherit that
    name: it may score otherwise."""
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
    """The version of a scorer that is made of others: it rises with each of theirs."""
    return FIRST + sum(version_of(part) - FIRST for part in parts)


def sound(score: Score) -> Score:
    """The score with None for numbers that are NaN or infinite; where that is its value, `why` says
    so. A scorer may be anybody's, and no average outlives a NaN."""
    value = finite_or_none(score.value)
    why = score.why if value == score.value else f"the scorer gave {score.value}, no number"
    return replace(
        score,
        value=value,
        why=why,
        raw=finite_or_none(score.raw),
        confidence=finite_or_none(score.confidence),
    )


UNPARSED = "no answer of the right kind"


def unparsed(why: str = UNPARSED) -> Score:
    """Wrong, for want of an answer."""
    return Score(0.0, None, why, parsed=False)
