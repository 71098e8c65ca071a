"""What a task is: questions by split, a category, and a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from taketurns.types import Query, Score

Split = Literal["train", "dev", "test"]
"""Labels are made on train, settings chosen on dev, and results reported on test."""


class Task(Protocol):
    """A set of questions with one way to score an answer. `category` is the paper's word for its
    kind."""

    @property
    def name(self) -> str: ...

    @property
    def category(self) -> str: ...

    def queries(self, split: Split) -> tuple[Query, ...]:
        """The questions of a split, in a fixed order; no question is in two."""
        ...

    def score(self, query: Query, answer: str) -> Score:
        """Judge one answer's text. A task that is reported over many answers still gives each one
        a value: for a stated confidence, one less the square of its error."""
        ...


@runtime_checkable
class GroupTask(Task, Protocol):
    """A task that judges answers beside each other, such as one that asks for variety. Its `score`
    judges an answer that stands alone."""

    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        """Judge several answers to one query; a score for each, in order."""
        ...
