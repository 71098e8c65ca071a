"""What all trainings are set by, in frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from taketurns.errors import UsageError

SMALL = 20_000_000  # parameters up to which a model is trained whole, on one thread


require = UsageError.unless


@dataclass(frozen=True, slots=True)
class OptimizationConfig:
    """How long and how fast. None stands for the default of what is trained; `batch_size` is the
    rows of an optimizer step."""

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
    """The same for a language model. `lora` None is no for models under 20 million parameters and
    yes for others; `report_to` is a tracker that transformers knows."""

    lora: bool | None = None
    rank: int = 16
    report_to: str = "none"
