"""Every number of a policy-gradient run, in a frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from taketurns.training.settings import require


@dataclass(frozen=True, slots=True)
class PolicyGradientConfig:
    """A step asks `questions` questions `answers` times each and moves the switcher `updates` times
    on what came of it (None: as suits what learns); `clip` bounds by how much its probabilities may
    change by that (PPO), and `kl` holds it to where it began.

    An answer's reward is its utility, less `switch_cost` for each change of speaker, less each
    token's price: `prices` are by candidate, per token, 0 where none is named. Every `check_every`
    steps, and after the last, the switcher answers `checked` validation questions a task as the
    team will use it, and the best one by the mean reward there is the result. `under_way` answers
    are written at a time.
    """

    steps: int = 60
    questions: int = 32
    answers: int = 8
    updates: int | None = None
    learning_rate: float | None = None
    clip: float = 0.2
    kl: float = 0.02
    switch_cost: float = 0.0
    prices: Mapping[str, float] = field(default_factory=dict)
    check_every: int = 10
    checked: int = 20
    under_way: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "questions", "updates", "check_every", "checked", "under_way"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1, not {value}")
        require(
            self.answers >= 2,
            f"answers must be at least 2, not {self.answers}: an answer's advantage is relative to "
            "the other answers",
        )
        require(
            self.learning_rate is None or 0 < self.learning_rate < inf,
            f"learning_rate must be above 0, not {self.learning_rate}",
        )
        require(0 < self.clip < 1, f"clip must be between 0 and 1, not {self.clip}")
        for name in ("kl", "switch_cost"):
            value = getattr(self, name)
            require(0 <= value < inf, f"{name} must be 0 or more, not {value}")
        require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")
        for name, price in self.prices.items():
            require(0 <= price < inf, f"the price of {name} must be 0 or more, not {price}")
