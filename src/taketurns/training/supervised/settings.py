"""What a switcher learns from labels, and how, in frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from taketurns.switchers.head import Mode
from taketurns.training.labels.labels import TargetKind
from taketurns.training.settings import OptimizationConfig, require


@dataclass(frozen=True, slots=True)
class Selection:
    """Which labels are learned and how. `tasks` empty is all of them. A prefix whose best branch
    leads its worst by less than `min_margin` says nothing and is left out of training.
    `validation` is the share of the queries that is kept for choosing the epoch."""

    targets: TargetKind = "tied"
    temperature: float = 0.1
    min_margin: float = 0.1
    tasks: tuple[str, ...] = ()
    validation: float = 0.15

    def __post_init__(self) -> None:
        require(0 < self.temperature < inf, f"temperature must be above 0, not {self.temperature}")
        require(
            0 < self.min_margin <= 1,
            f"min_margin must be above 0 and at most 1, not {self.min_margin}",
        )
        require(
            0 < self.validation < 1,
            f"validation must be a share between 0 and 1, not {self.validation}",
        )


@dataclass(frozen=True, slots=True)
class TrainingConfig(OptimizationConfig):
    """Training stops after `patience` epochs without a better one; the best epoch is the result."""

    patience: int = 5

    def __post_init__(self) -> None:
        OptimizationConfig.__post_init__(self)
        require(self.patience > 0, f"patience must be above 0, not {self.patience}")


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
