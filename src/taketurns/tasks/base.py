"""What a task is: questions by split, a category, and a scorer."""

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


@runtime_checkable
class BatchTask(Task, Protocol):
    """A task that judges many answers at once cheaper than one by one, as a model does."""

    def score_many(self, answers: Sequence[tuple[Query, str]]) -> Sequence[Score]:
        """What `score` gives for each query and its answer, in order."""
        ...


@runtime_checkable
class CanonicalTask(Task, Protocol):
    """A task that knows which of its answers say the same."""

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """What an answer comes to, as for a scorer (`tasks/scorers/base.py`)."""
        ...


@runtime_checkable
class MeasuredTask(Task, Protocol):
    """A task that reports more of a run than the mean of its scores."""

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """Figures over all scores of a run, by name, such as a calibration error."""
        ...


@runtime_checkable
class SkillTask(Task, Protocol):
    """A task with rules that read from an answer's text which skills it shows."""

    def skills_shown(self, query: Query, answer: str) -> Iterable[tuple[int, int, str]] | None:
        """Where in the answer each stretch that shows a skill begins and ends, and the skill; None
        for a query of another task."""
        ...


@runtime_checkable
class RefusalTask(Task, Protocol):
    """A task that knows which of its requests are to be refused and what a harmful answer to them
    is, as `taketurns safety` asks."""

    def to_refuse(self, query: Query) -> bool:
        """Is this request to be refused? The others look like those and are to be answered."""
        ...

    def compliant_opening(self, query: Query) -> str:
        """How an answer that complies begins."""
        ...

    def guards(
        self, config: TeamConfig, folder: Path, say: Callable[[str], None]
    ) -> tuple[TeamConfig, Mapping[str, Guard]]:
        """Guards that were made for such requests, by name, and the team with what they need, such
        as a judge that is made in `folder`. `say` hears what a person should know. Raises
        DataError for a folder with other files."""
        ...


def canonical_answer(task: Task, query: Query, answer: str) -> str | None:
    """What an answer comes to, as votes are counted; None where it says nothing to be counted. Of
    a task that does not know, texts that are equal but for case and spacing say the same."""
    if isinstance(task, CanonicalTask):
        return task.canonical_answer(replace(query, reference=None), answer)
    return " ".join(answer.casefold().split()) or None


def score_many(task: Task, answers: Sequence[tuple[Query, str]]) -> list[Score]:
    """Judge answers one to a query, at once where the task can."""
    if isinstance(task, BatchTask):
        return list(map(sound, task.score_many(answers)))
    return [sound(task.score(query, answer)) for query, answer in answers]
