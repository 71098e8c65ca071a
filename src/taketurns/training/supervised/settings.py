"""Every number of a training run, in frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from taketurns.errors import UsageError
from taketurns.switchers.head import Mode
from taketurns.training.labels.labels import Kind

_require = UsageError.unless

SMALL = 20_000_000  # parameters up to which a model is trained whole, on one thread


@dataclass(frozen=True, slots=True)
class Selection:
    """Which labels are learned and how. `tasks` empty is all of them. A prefix whose best branch
    leads its worst by less than `min_margin` says nothing and is left out of training.
    `validation` is the share of the queries that is kept for choosing the epoch."""

    targets: Kind = "tied"
    temperature: float = 0.1
    min_margin: float = 0.1
    tasks: tuple[str, ...] = ()
    validation: float = 0.15

    def __post_init__(self) -> None:
        _require(0 < self.temperature < inf, f"temperature must be above 0, not {self.temperature}")
        _require(0 < self.min_margin <= 1, f"min_margin must be within 0..1, not {self.min_margin}")
        _require(0 < self.validation < 1, f"validation must be a share of 1, not {self.validation}")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How long and how fast. Training stops after `patience` epochs without a better one; the best
    epoch is the result. None stands for the default of what is trained."""

    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    weight_decay: float | None = None
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "patience"):
            value = getattr(self, name)
            _require(value is None or 0 < value < inf, f"{name} must be above 0, not {value}")
        decay = self.weight_decay
        _require(decay is None or 0 <= decay < inf, f"weight_decay must be 0 or more, not {decay}")
        _require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")


@dataclass(frozen=True, slots=True)
class LMSettings:
    """`start` is a candidate's name, a path or a hub id, None the team's last candidate; `lora`
    None is no for models under 20 million parameters and yes for others."""

    start: str | None = None
    lora: bool | None = None
    rank: int = 16
    report_to: str = "none"


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """`reader` is the candidate that reads (mode "candidate"), or that reads while nobody has
    spoken (mode "speaker"); None is the team's last. `layers` empty is the upper half in three
    steps. A head without `bias` can be folded into the candidates' output matrices."""

    mode: Mode = "speaker"
    reader: str | None = None
    layers: tuple[int, ...] = ()
    bias: bool = True
