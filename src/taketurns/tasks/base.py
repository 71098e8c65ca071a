"""What a task is: questions by split, a category, and a scorer."""

from __future__ import annotations

from typing import Literal, Protocol

from taketurns.types import Query, Score

Split = Literal["dev", "test"]


class Task(Protocol):
    """A set of questions with one way to score an answer. `category` is the paper's word for its
    kind."""

    @property
    def name(self) -> str: ...

    @property
    def category(self) -> str: ...

    def queries(self, split: Split) -> tuple[Query, ...]:
        """The held-out questions of a split, in a fixed order."""
        ...

    def score(self, query: Query, answer: str) -> Score:
        """Judge one answer's text."""
        ...
