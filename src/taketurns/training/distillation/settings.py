"""Every number of a distillation, in frozen records."""

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
    """How much the team writes: `answers` to each of the first `questions` train questions of a
    task (None: all), `concurrency` questions at a time."""

    answers: int = 4
    questions: int | None = None
    concurrency: int = 64

    def __post_init__(self) -> None:
        require(self.answers > 0, f"answers must be above 0, not {self.answers}")


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Which answers are learned. "score" keeps those of at least `min_score`; "best" the best of
    each question, where they differ, because a reward has no right or wrong; "auto" is "best" for
    tasks that a reward model scores and "score" for the others."""

    keep: FilterRule = "auto"
    min_score: float = 1.0

    def __post_init__(self) -> None:
        require(
            0 < self.min_score <= 1,
            f"min_score must be above 0 and at most 1, not {self.min_score}",
        )


@dataclass(frozen=True, slots=True)
class StudentConfig(FineTuningConfig):
    """How the student learns. `student` is a candidate's name, a path or a hub id (None: the
    candidate whose place it takes).

    `loss`: "sft" is the cross-entropy of the tokens written, "kl" the divergence from what their
    speakers would have written at `temperature`, "both" the mean of the two. Of a distribution the
    `top` most probable tokens are told apart. `held_out` is the share of the questions on which the
    loss is only measured."""

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
    """What student, aligned checkpoint and team are asked: the first `limit` questions a task of a
    split (None: all), each under `seeds` seeds."""

    split: Split = "test"
    limit: int | None = 100
    seeds: int = 1
    concurrency: int = 64

    def __post_init__(self) -> None:
        require(self.seeds > 0, f"seeds must be above 0, not {self.seeds}")
        require(self.limit is None or self.limit > 0, f"limit must be above 0, not {self.limit}")
