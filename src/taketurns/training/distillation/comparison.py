"""What a student is compared with, and who compares: the evaluation, which is handed in."""

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
    """The team, the index of its aligned candidate, the student, and the file of each one's
    answers, which can be added to: more questions or seeds."""

    team: TeamConfig
    aligned: int
    student: ModelSpec
    answers: Mapping[str, Path]


Compare = Callable[
    [Contestants, Sequence[Task], ComparisonConfig], Coroutine[Any, Any, Mapping[str, Any]]
]
"""Asks all three what they have not been asked; scores with intervals, gain kept and costs, in
plain JSON values."""


def compared_by(config: ComparisonConfig) -> dict[str, Any]:
    """What decides the comparison, in plain JSON values."""
    settings = asdict(config)
    settings.pop("concurrency")
    return settings
