"""The protocol of a task: questions by split, a category, and a scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from taketurns.tasks.scorers.base import sound
from taketurns.types import Query, Score

if TYPE_CHECKING:
    from taketurns.config.policy import Guard
    from taketurns.config.team_config import TeamConfig

Split = Literal["train", "dev", "test"]
"""Labels are made on train, settings are chosen on dev, and results are reported on test."""


class Task(Protocol):
    """A set of questions with one way to score an answer. `category` is one of the paper's, such as
    "reasoning"."""

    @property
    def name(self) -> str: ...

    @property
    def category(self) -> str: ...

    def queries(self, split: Split) -> tuple[Query, ...]:
        """The questions of a split, in a fixed order; no question is in two splits."""
        ...

    def score(self, query: Query, answer: str) -> Score:
        """Score the text of one answer. A task that is measured over many answers still gives each
        answer a value: for a stated confidence, 1 minus the square of its error."""
        ...


@runtime_checkable
class GroupTask(Task, Protocol):
    """A task that scores several answers to a question together, for example by their diversity.
    Its `score` is for an answer alone."""

    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        """Score several answers to one query; one score for each, in order."""
        ...


@runtime_checkable
class BatchTask(Task, Protocol):
    """A task that scores many answers at once at a lower cost than one by one, as a model does."""

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> Sequence[Score]:
        """The result of `score` for each query and answer, in order."""
        ...


@runtime_checkable
class CanonicalTask(Task, Protocol):
    """A task that knows which answers have the same content."""

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The canonical form of an answer, as for a scorer (`tasks/scorers/base.py`)."""
        ...


@runtime_checkable
class MeasuredTask(Task, Protocol):
    """A task with further measures of a run than the mean score."""

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """Measures over all scores of a run, by name, such as a calibration error."""
        ...


@runtime_checkable
class SkillTask(Task, Protocol):
    """A task with rules that find the skills in an answer's text."""

    def skills_shown(self, query: Query, answer: str) -> Iterable[tuple[int, int, str]] | None:
        """The parts of the answer that show a skill, as (start, end, skill) with character
        positions; None for a query of another task."""
        ...


@runtime_checkable
class RefusalTask(Task, Protocol):
    """A task that knows which of its requests should be refused, for `taketurns safety`."""

    def to_refuse(self, query: Query) -> bool:
        """Should this request be refused? The other requests look similar and should be
        answered."""
        ...

    def compliant_opening(self, query: Query) -> str:
        """The beginning of an answer that complies."""
        ...

    def guards(
        self, config: TeamConfig, folder: Path, say: Callable[[str], None]
    ) -> tuple[TeamConfig, Mapping[str, Guard]]:
        """Guards for such requests, by name, and the team with the models that they need, such as a
        judge that is trained in `folder`. `say` gets messages for the user. Raises DataError for a
        folder with other files."""
        ...


def canonical_answer(task: Task, query: Query, answer: str) -> str | None:
    """The canonical form of an answer, by which votes are counted; None if it has none. For a task
    without canonical forms, texts that differ only in case and spacing are equal."""
    if isinstance(task, CanonicalTask):
        return task.canonical_answer(replace(query, reference=None), answer)
    return " ".join(answer.casefold().split()) or None


def score_many(task: Task, answers: Sequence[tuple[Query, str]]) -> list[Score]:
    """Score one answer per query, all at once if the task can."""
    if isinstance(task, BatchTask):
        return list(map(sound, task.score_many(answers)))
    return [sound(task.score(query, answer)) for query, answer in answers]
