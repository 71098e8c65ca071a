"""The settings for training a switcher from labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from taketurns.switchers.head import Mode
from taketurns.training.labels.labels import TargetKind
from taketurns.training.settings import OptimizationConfig, require


@dataclass(frozen=True, slots=True)
class Selection:
    """Which labels are used, and their targets. Empty `tasks` means all. A prefix whose best and
    worst utilities differ by less than `min_margin` is not used for training. `validation` is the
    share of the queries that is held out for choosing the epoch. Raises UsageError for a value out
    of range."""

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
    """`start` is a candidate's name, a path or a hub id (None: the team's last candidate). `lora`
    None trains all weights of models with less than 20 million parameters, and an adapter on
    others; `rank` is the adapter's."""

    start: str | None = None
    lora: bool | None = None
    rank: int = 16
    report_to: str = "none"


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """For a judge of MentorCollab: the `layers` of the writer that it reads, and the number of its
    hidden units, `width`."""

    layers: tuple[int, ...] = (-1,)
    width: int = 64


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """`reader` is the candidate that reads (mode "candidate"), or that reads before any candidate
    has spoken (mode "speaker"); None means the team's last. Empty `layers` means those at 1/2, 3/4
    and all of the depth. A head without `bias` can be folded into the candidates' output
    matrices."""

    mode: Mode = "speaker"
    reader: str | None = None
    layers: tuple[int, ...] = ()
    bias: bool = True
