"""A task made of questions and a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.errors import UsageError
from taketurns.tasks.base import Split
from taketurns.tasks.scorers.base import BatchScorer, GroupScorer, MeasuringScorer, Scorer
from taketurns.types import Query, Score


@dataclass(frozen=True)
class ScoredTask:
    """Questions by split and the scorer of their answers. `notes` are remarks for the reader of its
    scores, such as rows that were left out."""

    name: str
    category: str
    splits: Mapping[Split, tuple[Query, ...]]
    scorer: Scorer
    notes: tuple[str, ...] = ()

    def queries(self, split: Split) -> tuple[Query, ...]:
        return self.splits.get(split, ())

    def score(self, query: Query, answer: str) -> Score:
        return self.scorer.score(query, answer)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return self.scorer.canonical_answer(query, answer)

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> list[Score]:
        """All scores at once if the scorer can, otherwise one by one."""
        if isinstance(self.scorer, BatchScorer):
            return list(self.scorer.score_many(answers))
        return [self.scorer.score(query, answer) for query, answer in answers]

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """The scorer's measures over a run, if it has any."""
        return self.scorer.measures(scores) if isinstance(self.scorer, MeasuringScorer) else {}


@dataclass(frozen=True)
class GroupScoredTask(ScoredTask):
    """A task whose scorer scores several answers to a question together."""

    def score_group(self, query: Query, answers: Sequence[str]) -> list[Score]:
        """A score for each answer, in order."""
        assert isinstance(self.scorer, GroupScorer)
        return list(self.scorer.score_group(query, answers))


def scored_task(
    name: str,
    category: str,
    splits: Mapping[Split, tuple[Query, ...]],
    scorer: Scorer,
    notes: Sequence[str] = (),
) -> ScoredTask:
    """A task of the kind that fits the scorer."""
    kind = GroupScoredTask if isinstance(scorer, GroupScorer) else ScoredTask
    return kind(name, category, splits, scorer, tuple(notes))


@dataclass(frozen=True)
class Unscored:
    """The scorer of a task that is only asked, not scored. Its `score` raises UsageError."""

    task: str
    name: str = "none"

    def check(self, query: Query) -> None:
        """Any query can be asked."""

    def score(self, query: Query, answer: str) -> Score:
        raise UsageError(
            f"task {self.task!r} was loaded without a scorer: load it with scored=True"
        )

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """None: without a scorer no canonical form is known."""
        return None
