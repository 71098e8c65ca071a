"""How many rollouts each branch of a prefix gets.

An allocation sees the utilities so far and says how many more of each branch are wanted, until it
wants none. It keeps no state and draws nothing at random, so the same utilities always lead to the
same rollouts, and a stored bank of utilities can be replayed through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID: Floats = 1 / (1 + np.exp(-np.linspace(-25, 25, 501)))
PRIOR, LEAST = 2.0, 0.05  # rollouts that the prior is worth, and at least so many on either side


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
        """The branches that count as best when the prefix is done, several if they tie; None where
        their means say so."""
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
    """Rollouts go where it is open which branch is best.

    Every branch gets `first` rollouts, then those still in the race get `step` more at a time, up
    to `k` each. A branch leaves the race when the probability that it is better than the leader by
    more than `alike` has fallen to (1 - `confidence`) / rivals; the race ends when only the leader
    is left. So the leader is, with that confidence, as good as the best branch but for `alike`.

    The probabilities are of beta posteriors. Branches of one prefix are often worth the same, and
    mostly all or nothing; so what is expected of a branch before its own rollouts is the mean of
    all rollouts of the prefix, at the weight of two. Utilities between 0 and 1 count as fractions
    of a success: of all variables in 0..1 with a given mean a yes or no varies most, so posteriors
    are not too narrow for them. Bounds that hold whatever the utilities are and however often one
    looks (Hoeffding, Kullback-Leibler) keep nearly every branch in the race for 32 rollouts. A
    posterior's promise holds on average over prefixes, which is what labels need; the tests
    measure it on bandits of many kinds.
    """

    k: int = 32
    first: int = 8
    step: int = 4
    confidence: float = 0.9
    alike: float = 0.05
    name: str = "racing"

    def more(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        wanted = [0 if arm.ended else max(0, min(self.first, self.k) - arm.spent) for arm in arms]
        if any(wanted):
            return tuple(wanted)
        beliefs = _beliefs(arms)
        leader = max(range(len(arms)), key=lambda index: beliefs[index].mean)
        doubt = (1 - self.confidence) / (len(arms) - 1)
        rivals = [
            index
            for index, belief in enumerate(beliefs)
            if index != leader and belief.exceeds(beliefs[leader], self.alike) > doubt
        ]
        for index in (leader, *rivals) if rivals else ():
            if not arms[index].ended:
                wanted[index] = max(0, min(self.step, self.k - arms[index].spent))
        return tuple(wanted)

    def best(self, arms: Sequence[Arm]) -> tuple[int, ...]:
        """Those whose mean is within `alike` of the highest."""
        means = [fmean(arm.known) if arm.known else 0.0 for arm in arms]
        return tuple(i for i, mean in enumerate(means) if mean >= max(means) - self.alike)


def allocation_named(name: Literal["uniform", "racing"], k: int | None = None) -> Uniform | Racing:
    """The allocation that the command line asks for; `k` None leaves it its default."""
    if name == "uniform":
        return Uniform() if k is None else Uniform(k)
    return Racing() if k is None else Racing(k)


@dataclass(frozen=True, slots=True)
class _Belief:
    """Points that a branch's utility may have, rising, and how probable each of them is."""

    points: Floats
    weights: Floats

    @property
    def mean(self) -> float:
        return float(self.points @ self.weights)

    def exceeds(self, other: _Belief, margin: float) -> float:
        """The probability of being larger than `other` by more than `margin`."""
        below = np.searchsorted(other.points, self.points - margin)
        share = np.concatenate(([0.0], np.cumsum(other.weights)))
        return float(self.weights @ share[below])


def _beliefs(arms: Sequence[Arm]) -> list[_Belief]:
    """What the rollouts so far say of each branch."""
    seen = [utility for arm in arms if not arm.ended for utility in arm.known]
    expected = (sum(seen) + 0.5) / (len(seen) + 1)
    return [
        _Belief(np.array(arm.known or (0.0,)), np.ones(1))
        if arm.ended
        else _Belief(GRID, _posterior(sum(arm.known), len(arm.known), round(expected, 3)))
        for arm in arms
    ]


@lru_cache(maxsize=4096)
def _posterior(successes: float, rollouts: int, expected: float) -> Floats:
    """A beta distribution on the grid."""
    for_ = successes + max(LEAST, PRIOR * expected)
    against = rollouts - successes + max(LEAST, PRIOR * (1 - expected))
    logs = for_ * np.log(GRID) + against * np.log1p(-GRID)  # the grid is even in log-odds
    weights = np.exp(logs - logs.max())
    normalised: Floats = weights / weights.sum()
    return normalised
