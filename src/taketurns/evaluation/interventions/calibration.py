"""The quality of a switcher's decisions: its probabilities and choices against measured utilities.

At a decision point each candidate's next patch has several rollouts
(`training/labels/rollouts.py`). The candidate with the highest utility wins the decision point;
candidates that tie share it. A switcher is calibrated if candidates with probability p win a share
p of the decision points. Decision points where the candidates' utilities differ by less than
`MARGIN` have no winner and count only for regret.

Regret is the loss in utility against the best candidate. It has two estimates: `regret` takes the
maximum of noisy means and is biased upwards. `honest` finds the best candidate on every other
rollout and measures its utility on the remaining ones; it is biased downwards.
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

MARGIN = 0.1  # the same as in training
RESAMPLES = FEW_RESAMPLES // 4  # each sorts all decision points again
LATE = 4  # positions from this number of patches on are counted together


@dataclass(frozen=True, slots=True)
class SwitcherDecision:
    """A decision: its `position` (number of patches before it), the switcher's `probabilities`,
    those after top-p (`drawn`), and the utilities of each candidate's rollouts,
    `[candidate][rollout]`."""

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
        """Each candidate's share of the win: 1 for the best one, equal shares for ties."""
        best = [mean == max(self.means) for mean in self.means]
        return tuple(won / sum(best) for won in best)

    def regret(self, chosen: Sequence[float]) -> float:
        """The expected regret of drawing the speaker with these probabilities."""
        return max(self.means) - _expected(chosen, self.means)

    def honest_regret(self, chosen: Sequence[float]) -> float:
        """The same against a best candidate that was found on other rollouts."""
        first, second = ([fmean(u[start::2] or u) for u in self.utilities] for start in range(2))
        return fmean(
            other[max(range(len(half)), key=half.__getitem__)] - _expected(chosen, other)
            for half, other in ((first, second), (second, first))
        )


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The candidates with a probability within one bin of width 0.1: their `count`, the mean
    probability `given`, and the share of decision points `won`, with its interval."""

    count: int
    given: float
    won: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration over decision points with a winner. `error` is the expected calibration error
    over all candidates; `by_chance` is its mean, `by_chance_high` its 97.5 % quantile for a
    calibrated switcher with these probabilities at this sample size. `too_sure` is the mean
    probability of the most probable candidate minus its share of wins. The Brier scores (sum over
    candidates, 0 to 2) are those of the switcher, of equal probabilities, and of each candidate's
    overall share of wins as a constant."""

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
    """Mean regret over decision points: of the speaker that the switcher draws (`drawn` with its
    interval, and `honest`), of the `most_probable` candidate, of `random` switching, and of
    `always` the same candidate (`always_who`, the one with the lowest regret). `agreement` is how
    often the most probable candidate wins or ties, over decision points with a winner (None if
    there are none)."""

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
    """Calibration, and regret over all decision points, by position and by task."""

    calibration: Calibration | None
    regret: Regret
    by_position: Mapping[str, Regret]
    by_task: Mapping[str, Regret]


def assess(decisions: Sequence[SwitcherDecision], *, seed: int = 0) -> DecisionQuality:
    """Calibration and regret of these decisions. Raises ValueError if there are none."""
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
    """The name of a position: its number of patches before, or "4 or more"."""
    return str(position) if position < LATE else f"{LATE} or more"


def calibrate(decisions: Sequence[SwitcherDecision], *, seed: int = 0) -> Calibration:
    """Calibration of decisions with a winner; queries are resampled for intervals."""
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
    """Mean regret of these decisions; queries are resampled for the interval."""
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
    """The expected calibration error over all pairs of a decision point and a candidate."""
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
    """One winner per decision point, drawn with the given probabilities."""
    import numpy as np

    drawn = (rng.random((len(given), 1)) > given.cumsum(1)).sum(1)
    won: Floats = np.eye(given.shape[1])[np.minimum(drawn, given.shape[1] - 1)]
    return won


def _resampled(queries: Sequence[str], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """The rows of RESAMPLES resamples of the queries, each query with all of its rows."""
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
