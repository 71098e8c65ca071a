"""How good a switcher's decisions are: its probabilities and choices against measured utilities.

At a patch boundary every candidate's next patch has been continued to the end several times
(`training/labels/rollouts.py`). The candidate whose patch was worth most wins the boundary; those
that tie share it. A switcher is calibrated where candidates given p win a share p of boundaries.
Boundaries at which the candidates' utilities differ by less than `MARGIN` have no winner and count
for regret alone.

Regret is what is lost in utility against the best candidate. The best of noisy means looks better
than it is, so regret against it (`regret`) is too high; against the candidate that is best by every
other rollout, its utility read off those between (`honest`), it is too low.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from taketurns.evaluation.bootstrap import percentile_interval
from taketurns.evaluation.statistics import FEW_RESAMPLES
from taketurns.tasks.scorers.calibration import BINS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MARGIN = 0.1  # as training leaves out
RESAMPLES = FEW_RESAMPLES // 4  # each sorts all boundaries anew
LATE = 4  # patches from which on positions count as one


@dataclass(frozen=True, slots=True)
class SwitcherDecision:
    """A boundary: how many patches stand before it, the switcher's `probabilities`, those it draws
    from (`drawn`, after top-p), and for each candidate the utilities of its rollouts."""

    query: str
    task: str
    position: int
    probabilities: tuple[float, ...]
    drawn: tuple[float, ...]
    utilities: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> tuple[float, ...]:
        return tuple(map(fmean, self.utilities))

    @property
    def margin(self) -> float:
        return max(self.means) - min(self.means)

    @property
    def wins(self) -> tuple[float, ...]:
        """Each candidate's share of this boundary."""
        best = [mean == max(self.means) for mean in self.means]
        return tuple(won / sum(best) for won in best)

    def regret(self, chosen: Sequence[float]) -> float:
        """Of drawing from these probabilities."""
        return max(self.means) - _expected(chosen, self.means)

    def honest_regret(self, chosen: Sequence[float]) -> float:
        """Of drawing from these, against a best candidate found on other rollouts."""
        first, second = ([fmean(u[start::2] or u) for u in self.utilities] for start in range(2))
        return fmean(
            other[max(range(len(half)), key=half.__getitem__)] - _expected(chosen, other)
            for half, other in ((first, second), (second, first))
        )


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Candidates that were given a probability within one tenth: how many, the mean of it, and the
    share of boundaries that they won, with its interval."""

    count: int
    given: float
    won: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Over boundaries with a winner. `error` is the expected calibration error over all
    candidates, `by_chance` what a calibrated switcher of these probabilities would show at this
    size (mean and 97.5 % quantile). `too_sure` is the probability of the most probable candidate
    less how often that one wins. The Brier scores (sum over candidates, 0 to 2) are the switcher's,
    that of giving all the same, and that of always giving each candidate's share of wins."""

    boundaries: int
    bins: tuple[ReliabilityBin, ...]
    error: float
    error_low: float
    error_high: float
    by_chance: float
    by_chance_high: float
    too_sure: float
    brier: float
    brier_even: float
    brier_shares: float


@dataclass(frozen=True, slots=True)
class Regret:
    """Means over boundaries, with intervals of the first: of whom the switcher draws, by the best
    mean and honestly; of its most probable candidate, of random switching, and of always the same
    candidate, the one with least. `agreement` is how often the most probable one wins or ties,
    where there is a winner (None where there is none)."""

    boundaries: int
    drawn: float
    low: float
    high: float
    honest: float
    most_probable: float
    random: float
    always: float
    always_who: int
    agreement: float | None


@dataclass(frozen=True, slots=True)
class DecisionQuality:
    """The whole: calibration, and regret over all boundaries, by position and by task."""

    calibration: Calibration | None
    regret: Regret
    by_position: Mapping[str, Regret]
    by_task: Mapping[str, Regret]


def assess(decisions: Sequence[SwitcherDecision], *, seed: int = 0) -> DecisionQuality:
    """Raises ValueError where there is no decision."""
    won = [decision for decision in decisions if decision.margin >= MARGIN]
    positions = _grouped(decisions, lambda decision: place(decision.position))
    tasks = _grouped(decisions, lambda decision: decision.task)
    return DecisionQuality(
        calibrate(won, seed=seed) if won else None,
        regret(decisions, seed=seed),
        {name: regret(group, seed=seed) for name, group in positions.items()},
        {name: regret(group, seed=seed) for name, group in tasks.items()},
    )


def place(position: int) -> str:
    """How a number of patches is called."""
    return str(position) if position < LATE else f"{LATE} or more"


def calibrate(decisions: Sequence[SwitcherDecision], *, seed: int = 0) -> Calibration:
    """Of boundaries with a winner; queries are resampled for intervals."""
    import numpy as np

    rng = np.random.default_rng(seed)
    given = np.array([decision.probabilities for decision in decisions])
    won = np.array([decision.wins for decision in decisions])
    drawn = _resampled([decision.query for decision in decisions], rng)
    errors = [_error(given[rows], won[rows]) for rows in drawn]
    perfect = [_error(given, _winners(given, rng)) for _ in range(RESAMPLES)]
    low, high = _tails(errors)
    return Calibration(
        len(decisions),
        tuple(_bins(given, won, drawn)),
        _error(given, won),
        low,
        high,
        float(np.mean(perfect)),
        _tails(perfect)[1],
        float((given - won)[np.arange(len(given)), given.argmax(1)].mean()),
        _brier(given, won),
        _brier(np.full_like(given, 1 / given.shape[1]), won),
        _brier(np.tile(won.mean(0), (len(won), 1)), won),
    )


def regret(decisions: Sequence[SwitcherDecision], *, seed: int = 0) -> Regret:
    """Of these boundaries; queries are resampled for the interval."""
    import numpy as np

    rng = np.random.default_rng(seed)
    count = len(decisions[0].probabilities)
    values = np.array([decision.regret(decision.drawn) for decision in decisions])
    drawn = _resampled([decision.query for decision in decisions], rng)
    low, high = _tails([values[rows].mean() for rows in drawn])
    tops = [_only(max(range(count), key=d.probabilities.__getitem__), count) for d in decisions]
    always = [fmean(d.regret(_only(who, count)) for d in decisions) for who in range(count)]
    right = [
        _expected(top, decision.wins) > 0
        for decision, top in zip(decisions, tops, strict=True)
        if decision.margin >= MARGIN
    ]
    return Regret(
        len(decisions),
        float(values.mean()),
        low,
        high,
        fmean(decision.honest_regret(decision.drawn) for decision in decisions),
        fmean(decision.regret(top) for decision, top in zip(decisions, tops, strict=True)),
        fmean(decision.regret([1 / count] * count) for decision in decisions),
        min(always),
        always.index(min(always)),
        fmean(right) if right else None,
    )


def _expected(probabilities: Sequence[float], values: Sequence[float]) -> float:
    return sum(p * value for p, value in zip(probabilities, values, strict=True))


def _only(who: int, count: int) -> list[float]:
    return [float(index == who) for index in range(count)]


def _grouped(
    decisions: Sequence[SwitcherDecision], key: Callable[[SwitcherDecision], str]
) -> dict[str, list[SwitcherDecision]]:
    groups: dict[str, list[SwitcherDecision]] = {}
    for decision in sorted(decisions, key=key):
        groups.setdefault(key(decision), []).append(decision)
    return groups


def _bin_of(given: Floats) -> NDArray[np.intp]:
    import numpy as np

    place: NDArray[np.intp] = np.minimum(BINS - 1, (given * BINS).astype(np.intp))
    return place


def _error(given: Floats, won: Floats) -> float:
    """The expected calibration error over every pair of a boundary and a candidate."""
    import numpy as np

    gaps = np.bincount(_bin_of(given).ravel(), (given - won).ravel(), BINS)
    return float(np.abs(gaps).sum() / given.size)


def _bins(given: Floats, won: Floats, drawn: Sequence[NDArray[np.intp]]) -> list[ReliabilityBin]:
    place = _bin_of(given)
    bins = []
    for at in range(BINS):
        inside = place == at
        if not inside.any():
            continue
        hits, sizes = (won * inside).sum(1), inside.sum(1)
        shares = [hits[rows].sum() / sizes[rows].sum() for rows in drawn if sizes[rows].any()]
        low, high = _tails(shares)
        count = int(sizes.sum())
        bins.append(
            ReliabilityBin(count, float(given[inside].mean()), float(won[inside].mean()), low, high)
        )
    return bins


def _brier(given: Floats, won: Floats) -> float:
    return float(((given - won) ** 2).sum(1).mean())


def _winners(given: Floats, rng: np.random.Generator) -> Floats:
    """One winner a boundary, drawn from what was given."""
    import numpy as np

    drawn = (rng.random((len(given), 1)) > given.cumsum(1)).sum(1)
    won: Floats = np.eye(given.shape[1])[np.minimum(drawn, given.shape[1] - 1)]
    return won


def _resampled(queries: Sequence[str], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows of so many draws of the queries, each with all of its rows."""
    import numpy as np

    rows_of: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        rows_of.setdefault(query, []).append(row)
    rows = [np.array(rows_of_query) for rows_of_query in rows_of.values()]
    return [
        np.concatenate([rows[at] for at in rng.integers(len(rows), size=len(rows))])
        for _ in range(RESAMPLES)
    ]


def _tails(values: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    low, high = percentile_interval(np.array(values))
    return float(low), float(high)
