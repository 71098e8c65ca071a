"""The settings of a distillation."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from taketurns.tasks.base import Split
from taketurns.training.settings import FineTuningConfig, require

FilterRule = Literal["auto", "score", "best"]
Loss = Literal["sft", "kl", "both"]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """The team writes `answers` answers to each of the first `questions` train questions of a task
    (None: all), `concurrency` answers at a time."""

    answers: int = 4
    questions: int | None = None
    concurrency: int = 64

    def __post_init__(self) -> None:
        require(self.answers > 0, f"answers must be above 0, not {self.answers}")


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Which answers are kept. "score" keeps those with at least `min_score`; "best" keeps the best
    ones to each question, if their scores differ; "auto" is "best" for tasks that a reward model
    scores, because a reward has no threshold for a right answer, and "score" for the others."""

    keep: FilterRule = "auto"
    min_score: float = 1.0

    def __post_init__(self) -> None:
        require(
            0 < self.min_score <= 1,
            f"min_score must be above 0 and at most 1, not {self.min_score}",
        )


@dataclass(frozen=True, slots=True)
class StudentConfig(FineTuningConfig):
    """`student` is a candidate's name, a path or a hub id (None: the candidate that it replaces).

    `loss`: "sft" is the cross-entropy of the written tokens, "kl" the divergence from the speakers'
    distributions at `temperature`, "both" the mean of the two. The `top` most probable tokens of a
    distribution are kept apart, the rest is one outcome. `held_out` is the share of the questions
    on which the loss is only measured."""

    student: str | None = None
    loss: Loss = "both"
    temperature: float = 1.0
    top: int = 64
    held_out: float = 0.05

    def __post_init__(self) -> None:
        FineTuningConfig.__post_init__(self)
        for name in ("temperature", "top"):
            value = getattr(self, name)
            require(0 < value < inf, f"{name} must be above 0, not {value}")
        require(
            0 <= self.held_out < 1,
            f"held_out must be a share of at least 0 and below 1, not {self.held_out}",
        )


@dataclass(frozen=True, slots=True)
class ComparisonConfig:
    """Student, aligned checkpoint and team answer the first `limit` questions per task of a split
    (None: all), each under `seeds` seeds."""

    split: Split = "test"
    limit: int | None = 100
    seeds: int = 1
    concurrency: int = 64

    def __post_init__(self) -> None:
        require(self.seeds > 0, f"seeds must be above 0, not {self.seeds}")
        require(self.limit is None or self.limit > 0, f"limit must be above 0, not {self.limit}")
