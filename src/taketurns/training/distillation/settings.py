"""Every number of a distillation, in frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from taketurns.errors import UsageError
from taketurns.tasks.base import Split

_require = UsageError.unless

Keep = Literal["auto", "score", "best"]
Loss = Literal["sft", "kl", "both"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How much the team writes: `answers` to each of the first `questions` train questions of a
    task (None: all), `concurrency` questions at a time."""

    answers: int = 4
    questions: int | None = None
    concurrency: int = 64

    def __post_init__(self) -> None:
        _require(self.answers > 0, f"answers must be above 0, not {self.answers}")


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which answers are learned. "score" keeps those of at least `min_score`; "best" the best of
    each question, where they differ, because a reward has no right or wrong; "auto" is "best" for
    tasks that a reward model scores and "score" for the others."""

    keep: Keep = "auto"
    min_score: float = 1.0

    def __post_init__(self) -> None:
        _require(0 < self.min_score <= 1, f"min_score must be within 0..1, not {self.min_score}")


@dataclass(frozen=True, slots=True)
class Learning:
    """How the student learns. `student` is a candidate's name, a path or a hub id (None: the
    candidate whose place it takes); `lora` None is no for models under 20 million parameters.

    `loss`: "sft" is the cross-entropy of the tokens written, "kl" the divergence from what their
    speakers would have written at `temperature`, "both" the mean of the two. Of a distribution the
    `top` most probable tokens are told apart. `held_out` is the share of the questions on which the
    loss is only measured. None stands for the default of what is trained."""

    student: str | None = None
    loss: Loss = "both"
    temperature: float = 1.0
    top: int = 64
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    weight_decay: float | None = None
    lora: bool | None = None
    rank: int = 16
    held_out: float = 0.05
    seed: int = 0
    report_to: str = "none"

    def __post_init__(self) -> None:
        for name in ("temperature", "top", "epochs", "learning_rate", "batch_size"):
            value = getattr(self, name)
            _require(value is None or 0 < value < inf, f"{name} must be above 0, not {value}")
        decay = self.weight_decay
        _require(decay is None or 0 <= decay < inf, f"weight_decay must be 0 or more, not {decay}")
        _require(0 <= self.held_out < 1, f"held_out must be a share of 1, not {self.held_out}")
        _require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")


@dataclass(frozen=True, slots=True)
class Comparing:
    """What student, aligned checkpoint and team are asked: the first `limit` questions a task of a
    split (None: all), each under `seeds` seeds."""

    split: Split = "test"
    limit: int | None = 100
    seeds: int = 1
    concurrency: int = 64

    def __post_init__(self) -> None:
        _require(self.seeds > 0, f"seeds must be above 0, not {self.seeds}")
        _require(self.limit is None or self.limit > 0, f"limit must be above 0, not {self.limit}")
