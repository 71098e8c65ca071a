"""The settings that all kinds of training share."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from taketurns.errors import UsageError

SMALL = 20_000_000  # parameters; below, all weights are trained, on one thread


require = UsageError.unless


@dataclass(frozen=True, slots=True)
class OptimizationConfig:
    """None means the default for the kind of model that is trained. `batch_size` is the number of
    rows of an optimizer step. Raises UsageError for a value out of range."""

    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    weight_decay: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size"):
            value = getattr(self, name)
            require(value is None or 0 < value < inf, f"{name} must be above 0, not {value}")
        decay = self.weight_decay
        require(decay is None or 0 <= decay < inf, f"weight_decay must be 0 or more, not {decay}")
        require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")


@dataclass(frozen=True, slots=True)
class FineTuningConfig(OptimizationConfig):
    """The settings for a language model. `lora` None trains all weights of models with less than 20
    million parameters, and an adapter on others; `report_to` is a tracker that transformers
    knows."""

    lora: bool | None = None
    rank: int = 16
    report_to: str = "none"
