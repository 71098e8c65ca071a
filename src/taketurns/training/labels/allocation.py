"""How many rollouts each branch of a prefix gets.

An allocation sees the utilities so far and says how many more of each branch are wanted, until it
wants none. It keeps no state and draws nothing at random, so the same utilities always lead to the
same rollouts, and a stored bank of utilities can be replayed through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean
from typing import Literal, Protocol

NORMAL = NormalDist()
PRIOR, LEAST = 4.0, 0.05  # rollouts that the prior is worth, and at least so many on either side


@dataclass(frozen=True, slots=True)
class Arm:
    """A branch: its rollouts' utilities in 0..1, None for one that failed. The utility of a branch
    that `ended` the answer is known exactly."""

    utilities: tuple[float | None, ...]
    ended: bool = False

    @property
    def spent(self) -> int:
        return len(self.utilities)

    @property
    def known(self) -> tuple[float, ...]:
        return tuple(utility for utility in self.utilities if utility is not None)


class Allocation(Protocol):
    """`name` stands in the record; `first` is how many rollouts a branch gets before anything is
    known of it."""

    @property
    def name(self) -> str: ...

    @property
    def first(self) -> int: ...

    def more(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        """How many more rollouts each branch gets now; all 0 when the prefix is done. A branch that
        ended gets none."""
        ...

    def best(self, arms: Sequence[Arm]) -> tuple[int, ...] | None:
        """The branches that count as best when the prefix is done, the best first, several if they
        tie; None where their means say so."""
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
    """Rollouts go where they may still change which branch is best.

    Every branch gets `first` rollouts. Then the branch that leads, and every rival that may still
    be better, get `step` more at a time, up to `k` each. A rival is given up when what is expected
    to be lost by that, in utility, has fallen to `loss`: its expected improvement on the leader, as
    in Bayesian optimisation. So branches that are far apart are told apart at once, and those that
    are nearly alike are not told apart at length, because little is lost by taking the wrong one. A
    bound on the probability of taking the wrong one, which is what races usually stop by, spends
    most on them.

    Beliefs are beta posteriors. Branches of one prefix are often worth the same, and mostly all or
    nothing; so what is expected of a branch before its own rollouts is the mean of all rollouts of
    the prefix, at the weight of four. Utilities between 0 and 1 count as fractions of a success: of
    all variables in 0..1 with a given mean a yes or no varies most, so posteriors are not too
    narrow for them. Branches whose means end within `alike` of the highest tie.
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
        """The best first. Means are the posteriors': a branch that was given up early did as well
        as its few rollouts say, or as the others did."""
        means = [belief.mean for belief in _beliefs(arms)]
        ranked = sorted(range(len(arms)), key=lambda index: -means[index])
        return tuple(index for index in ranked if means[index] >= max(means) - self.alike)


def allocation_named(name: Literal["uniform", "racing"], k: int | None = None) -> Uniform | Racing:
    """The allocation that the command line asks for; `k` None leaves it its default."""
    if name == "uniform":
        return Uniform() if k is None else Uniform(k)
    return Racing() if k is None else Racing(k)


@dataclass(frozen=True, slots=True)
class _Belief:
    """The mean and the variance of what a branch may be worth."""

    mean: float
    variance: float


def _beliefs(arms: Sequence[Arm]) -> list[_Belief]:
    """What the rollouts so far say of each branch."""
    seen = [utility for arm in arms if not arm.ended for utility in arm.known]
    expected = (sum(seen) + 0.5) / (len(seen) + 1)
    return [
        _Belief(fmean(arm.known or (0.0,)), 0.0)
        if arm.ended
        else _posterior(sum(arm.known), len(arm.known), expected)
        for arm in arms
    ]


def _posterior(successes: float, rollouts: int, expected: float) -> _Belief:
    """Of a beta distribution."""
    for_ = successes + max(LEAST, PRIOR * expected)
    against = rollouts - successes + max(LEAST, PRIOR * (1 - expected))
    mean = for_ / (for_ + against)
    return _Belief(mean, mean * (1 - mean) / (for_ + against + 1))


def _improvement(rival: _Belief, leader: _Belief) -> float:
    """How much better a rival is expected to be than the leader, counting 0 where it is worse; the
    difference is taken to be normal."""
    spread = sqrt(rival.variance + leader.variance)
    if not spread:
        return 0.0
    gap = (leader.mean - rival.mean) / spread
    return spread * (NORMAL.pdf(gap) - gap * NORMAL.cdf(-gap))
