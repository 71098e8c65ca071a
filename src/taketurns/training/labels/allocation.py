"""How many rollouts each branch of a prefix gets.

An allocation reads the utilities so far and returns how many more rollouts each branch gets, until
no branch gets any. It has no state and no randomness, so the same utilities always lead to the same
rollouts, and a stored bank of utilities can be replayed through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean
from typing import Literal, Protocol

NORMAL = NormalDist()
PRIOR, LEAST = 4.0, 0.05  # weight of the prior in rollouts, and its minimum on either side


@dataclass(frozen=True, slots=True)
class Arm:
    """A branch: its rollouts' utilities in 0..1, None for a rollout that failed. A branch that
    `ended` the answer has a single, exactly known utility."""

    utilities: tuple[float | None, ...]
    ended: bool = False

    @property
    def spent(self) -> int:
        return len(self.utilities)

    @property
    def known(self) -> tuple[float, ...]:
        return tuple(utility for utility in self.utilities if utility is not None)


class Allocation(Protocol):
    """`name` is written to the record; `first` is the number of rollouts that a branch gets at
    first."""

    @property
    def name(self) -> str: ...

    @property
    def first(self) -> int: ...

    def more(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        """The number of further rollouts for each branch; all 0 when the prefix is done. A branch
        that ended gets none."""
        ...

    def best(self, arms: Sequence[Arm]) -> tuple[int, ...] | None:
        """The best branches when the prefix is done: the best first, several if they tie. None if
        the means of their utilities are to decide."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every branch gets `k` rollouts (32 in the paper)."""

    k: int = 8
    name: str = "uniform"

    @property
    def first(self) -> int:
        return self.k

    def more(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        return tuple(0 if arm.ended else max(0, self.k - arm.spent) for arm in arms)

    def best(self, arms: Sequence[Arm]) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Racing:
    """Rollouts go to the branches that may still be best.

    Every branch gets `first` rollouts. Then the leading branch, and every rival that may still be
    better, get `step` more at a time, up to `k` each. A rival is dropped when its expected
    improvement on the leader (in utility, as in Bayesian optimisation) is at most `loss`. So few
    rollouts separate branches that are far apart, and none are wasted on branches that are nearly
    equal, where the wrong choice costs little. Races that bound the probability of a wrong choice
    spend most of their rollouts on these.

    Beliefs are beta posteriors. The branches of a prefix often have equal utilities, mostly 0 or 1;
    so the prior mean of a branch is the mean of all rollouts of the prefix, with the weight of
    four rollouts. A utility between 0 and 1 counts as a fraction of a success: for a given mean,
    a binary variable has the largest variance of all variables in 0..1, so the posteriors are not
    too narrow. Branches whose final means are within `alike` of the highest tie.
    """

    k: int = 32
    first: int = 4
    step: int = 4
    loss: float = 0.012
    alike: float = 0.01
    name: str = "racing"

    def more(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        wanted = [0 if arm.ended else max(0, min(self.first, self.k) - arm.spent) for arm in arms]
        if any(wanted):
            return tuple(wanted)
        beliefs = _beliefs(arms)
        leader = max(range(len(arms)), key=lambda index: beliefs[index].mean)
        rivals = [
            index
            for index, belief in enumerate(beliefs)
            if index != leader and _improvement(belief, beliefs[leader]) > self.loss
        ]
        for index in (leader, *rivals) if rivals else ():
            if not arms[index].ended:
                wanted[index] = max(0, min(self.step, self.k - arms[index].spent))
        return tuple(wanted)

    def best(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        """The best first, by posterior means: the mean of a branch that was dropped early depends
        on its few rollouts and on those of the others."""
        means = [belief.mean for belief in _beliefs(arms)]
        ranked = sorted(range(len(arms)), key=lambda index: -means[index])
        return tuple(index for index in ranked if means[index] >= max(means) - self.alike)


def allocation_named(name: Literal["uniform", "racing"], k: int | None = None) -> Uniform | Racing:
    """The allocation of this name; `k` None means its default."""
    if name == "uniform":
        return Uniform() if k is None else Uniform(k)
    return Racing() if k is None else Racing(k)


@dataclass(frozen=True, slots=True)
class _Belief:
    """The mean and the variance of a branch's expected utility."""

    mean: float
    variance: float


def _beliefs(arms: Sequence[Arm]) -> list[_Belief]:
    """The posterior of each branch, given the rollouts so far."""
    seen = [utility for arm in arms if not arm.ended for utility in arm.known]
    expected = (sum(seen) + 0.5) / (len(seen) + 1)
    return [
        _Belief(fmean(arm.known or (0.0,)), 0.0)
        if arm.ended
        else _posterior(sum(arm.known), len(arm.known), expected)
        for arm in arms
    ]


def _posterior(successes: float, rollouts: int, expected: float) -> _Belief:
    """Mean and variance of a beta distribution after `rollouts` with `successes`."""
    for_ = successes + max(LEAST, PRIOR * expected)
    against = rollouts - successes + max(LEAST, PRIOR * (1 - expected))
    mean = for_ / (for_ + against)
    return _Belief(mean, mean * (1 - mean) / (for_ + against + 1))


def _improvement(rival: _Belief, leader: _Belief) -> float:
    """The expected improvement of a rival on the leader (0 where it is worse); the difference is
    assumed to be normal."""
    spread = sqrt(rival.variance + leader.variance)
    if not spread:
        return 0.0
    gap = (leader.mean - rival.mean) / spread
    return spread * (NORMAL.pdf(gap) - gap * NORMAL.cdf(-gap))
