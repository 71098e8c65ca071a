"""The settings of a policy-gradient run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from taketurns.training.settings import require


@dataclass(frozen=True, slots=True)
class PolicyGradientConfig:
    """A step asks `questions` questions `answers` times each and updates the switcher `updates`
    times on the answers (None: the learner's default). `clip` bounds the change of the
    probabilities (PPO), and `kl` weights the divergence from the start.

    An answer's reward is its utility, minus `switch_cost` for each change of speaker, minus the
    price of each token: `prices` are per token, by candidate, 0 by default. Every `check_every`
    steps, and after the last one, the team answers `checked` validation questions per task under
    its own policy; the result is the step with the best mean reward there. At most `under_way`
    answers are written at a time. Raises UsageError for a value out of range.
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
