"""The comparison of a student with its team. The evaluation that does it is passed in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taketurns.config.team_config import TeamConfig
from taketurns.tasks.base import Task
from taketurns.training.distillation.settings import ComparisonConfig
from taketurns.types import ModelSpec

STUDENT, ALIGNED, TEAM = "student", "aligned", "team"
METHODS = (STUDENT, ALIGNED, TEAM)


@dataclass(frozen=True, slots=True)
class Contestants:
    """The team, the index of its aligned candidate, the student, and the file with the answers of
    each. Answers to more questions or under more seeds are appended to the files."""

    team: TeamConfig
    aligned: int
    student: ModelSpec
    answers: Mapping[str, Path]


Compare = Callable[
    [Contestants, Sequence[Task], ComparisonConfig], Coroutine[Any, Any, Mapping[str, Any]]
]
"""Asks all three the questions that they have not answered yet; returns scores with intervals, gain
kept and costs, as plain JSON values."""


def compared_by(config: ComparisonConfig) -> dict[str, Any]:
    """The settings that decide the comparison, as plain JSON values."""
    settings = asdict(config)
    settings.pop("concurrency")
    return settings
