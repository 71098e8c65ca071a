"""The contribution of each candidate: scores of coalitions, leave-one-out, and Shapley values.

A coalition is a set of candidate indices; its score is the mean score of the team of these
candidates, and the score of the empty one is 0. The Shapley value of a candidate is the mean of
what it adds over all orders in which a pool can be formed (Shapley 1953). It is exact, from all
2^n - 1 coalitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING, Any

from taketurns.evaluation.bootstrap import BootstrapEstimate, percentile_interval
from taketurns.evaluation.statistics import FEW_RESAMPLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Coalition = frozenset[int]
CoalitionScores = Mapping[Coalition, Any]
"""Scores by coalition: numbers, or arrays of one shape with one number per resample."""

MOST = 4  # candidates up to which all coalitions are asked
FEWEST = 3  # tasks that the interval of a correlation needs

Added = Callable[[CoalitionScores, int], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of a candidate over some questions: its score alone, the loss of the pool
    without it and, if all coalitions were asked, its Shapley value."""

    candidate: int
    alone: BootstrapEstimate
    left_out: BootstrapEstimate
    shapley: BootstrapEstimate | None


@dataclass(frozen=True, slots=True)
class ContributionCorrelation:
    """The correlation between a candidate's score alone and its contribution, over pairs of a task
    and a candidate (`pairs`), and the same with each task's mean subtracted (`within`)."""

    pairs: BootstrapEstimate | None
    within: BootstrapEstimate | None


@dataclass(frozen=True, slots=True)
class ContributionStudy:
    """Contributions by task and over all tasks (`whole`), for one kind of switcher of a coalition,
    and their correlation with the scores alone. The correlation `shapley` takes what a candidate
    adds on average to a non-empty coalition, so that its score alone is no part of it."""

    tasks: Mapping[str, tuple[Contribution, ...]]
    whole: tuple[Contribution, ...]
    left_out: ContributionCorrelation
    shapley: ContributionCorrelation | None


def coalitions(candidates: int) -> list[Coalition]:
    """The coalitions to ask: all of them for up to MOST candidates; for more, each candidate alone,
    the pool without each candidate, and the whole pool."""
    sizes = set(range(1, candidates + 1) if candidates <= MOST else (1, candidates - 1, candidates))
    pool = range(candidates)
    return [Coalition(some) for size in sorted(sizes) for some in combinations(pool, size)]


def shapley(scores: CoalitionScores, candidates: int) -> tuple[Any, ...]:
    """The Shapley value of each candidate; they sum to the score of the whole pool. Raises KeyError
    for a coalition without a score."""
    return tuple(
        sum(_orders(len(others), candidates) * added for others, added in additions)
        for additions in _added(scores, candidates)
    )


def beyond_alone(scores: CoalitionScores, candidates: int) -> tuple[Any, ...]:
    """What each candidate adds on average to a non-empty coalition: the Shapley value over the
    orders in which the candidate is not the first."""
    scale = candidates / (candidates - 1)
    return tuple(
        sum(
            scale * _orders(len(others), candidates) * added
            for others, added in additions
            if others
        )
        for additions in _added(scores, candidates)
    )


def left_out(scores: CoalitionScores, candidates: int) -> tuple[Any, ...]:
    """The loss of the pool without each candidate."""
    whole = Coalition(range(candidates))
    return tuple(scores[whole] - scores[whole - {candidate}] for candidate in range(candidates))


def study(
    scores: Mapping[str, Mapping[Coalition, Sequence[float]]], *, seed: int = 0
) -> ContributionStudy:
    """The study of `scores[task][coalition]`, one score per question (at least two questions), with
    the same order of questions for all coalitions.

    Intervals come from questions resampled within their tasks, those of correlations from resampled
    tasks. For a correlation the score alone is measured on every other question and the
    contribution on the remaining ones, then the other way round: otherwise the noise of shared
    questions would correlate with itself. The noise that is left biases correlations towards 0.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    tables = {
        task: {coalition: np.array(column, dtype=float) for coalition, column in columns.items()}
        for task, columns in scores.items()
    }
    asked = set(next(iter(tables.values())))
    count = max(map(len, asked))
    exact = count <= MOST and asked >= set(coalitions(count))
    means = {task: _means(table) for task, table in tables.items()}
    drawn = {task: _resampled(table, rng) for task, table in tables.items()}
    return ContributionStudy(
        {task: _contributions(means[task], drawn[task], count, exact=exact) for task in tables},
        _contributions(_pooled(means), _pooled(drawn), count, exact=exact),
        _correlation(tables, left_out, count, rng),
        _correlation(tables, beyond_alone, count, rng) if exact else None,
    )


def _orders(before: int, candidates: int) -> float:
    """The share of orders in which exactly a given set of `before` candidates precedes a
    candidate."""
    return factorial(before) * factorial(candidates - before - 1) / factorial(candidates)


def _added(scores: CoalitionScores, candidates: int) -> list[list[tuple[Coalition, Any]]]:
    """For each candidate: every coalition without it, and what it adds to that coalition."""
    additions = []
    for candidate in range(candidates):
        others = [other for other in range(candidates) if other != candidate]
        without = [
            Coalition(some) for size in range(candidates) for some in combinations(others, size)
        ]
        additions.append(
            [(c, scores[c | {candidate}] - (scores[c] if c else 0.0)) for c in without]
        )
    return additions


def _means(table: Mapping[Coalition, Floats]) -> dict[Coalition, Any]:
    return {coalition: column.mean() for coalition, column in table.items()}


def _resampled(table: Mapping[Coalition, Floats], rng: np.random.Generator) -> dict[Coalition, Any]:
    """Each coalition's mean in FEW_RESAMPLES resamples of the questions, the same for all."""
    count = len(next(iter(table.values())))
    rows = rng.integers(count, size=(FEW_RESAMPLES, count))
    return {coalition: column[rows].mean(1) for coalition, column in table.items()}


def _pooled(by_task: Mapping[str, CoalitionScores]) -> dict[Coalition, Any]:
    first = next(iter(by_task.values()))
    return {
        coalition: sum(scores[coalition] for scores in by_task.values()) / len(by_task)
        for coalition in first
    }


def _contributions(
    means: CoalitionScores, drawn: CoalitionScores, count: int, *, exact: bool
) -> tuple[Contribution, ...]:
    lost = zip(left_out(means, count), left_out(drawn, count), strict=True)
    values: list[BootstrapEstimate | None] = [None] * count
    if exact:
        pairs = zip(shapley(means, count), shapley(drawn, count), strict=True)
        values = [_estimate(value, resampled) for value, resampled in pairs]
    return tuple(
        Contribution(
            candidate,
            _estimate(means[Coalition({candidate})], drawn[Coalition({candidate})]),
            _estimate(value, resampled),
            values[candidate],
        )
        for candidate, (value, resampled) in enumerate(lost)
    )


def _estimate(value: float, drawn: Floats) -> BootstrapEstimate:
    low, high = percentile_interval(drawn)
    return BootstrapEstimate(float(value), float(low), float(high))


def _correlation(
    tables: Mapping[str, Mapping[Coalition, Floats]],
    added: Added,
    count: int,
    rng: np.random.Generator,
) -> ContributionCorrelation:
    import numpy as np

    halves = [_halves(table) for table in tables.values()]
    # [half, task, candidate]
    alone = np.array(
        [[[half[Coalition({i})] for i in range(count)] for half in both] for both in halves]
    )
    adds = np.array([[added(half, count) for half in both] for both in halves])
    alone, adds = alone.swapaxes(0, 1), adds.swapaxes(0, 1)
    tasks = len(halves)
    drawn = np.full((FEW_RESAMPLES, 2), np.nan)
    for at in range(FEW_RESAMPLES if tasks >= FEWEST else 0):
        some = rng.integers(tasks, size=tasks)
        drawn[at] = _crossed(alone[:, some], adds[:, some])
    return ContributionCorrelation(*map(_finite, _crossed(alone, adds), drawn.T))


def _finite(value: float, drawn: Floats) -> BootstrapEstimate | None:
    import numpy as np

    if not np.isfinite(value):
        return None
    kept = drawn[np.isfinite(drawn)]
    return BootstrapEstimate(value) if len(kept) < len(drawn) / 2 else _estimate(value, kept)


def _halves(table: Mapping[Coalition, Floats]) -> tuple[CoalitionScores, CoalitionScores]:
    """The means over the even-numbered questions and over the odd-numbered ones."""
    first, second = (
        {coalition: column[start::2].mean() for coalition, column in table.items()}
        for start in range(2)
    )
    return first, second


def _crossed(alone: Floats, adds: Floats) -> tuple[float, float]:
    """Both correlations, with the score alone from one half of the questions and the contribution
    from the other; the mean of both ways."""
    correlations = []
    for half, other in ((0, 1), (1, 0)):
        first, second = alone[half], adds[other]
        within = [matrix - matrix.mean(1, keepdims=True) for matrix in (first, second)]
        correlations.append((_pearson(first, second), _pearson(*within)))
    (pairs, inside), (pairs_again, inside_again) = correlations
    return (pairs + pairs_again) / 2, (inside + inside_again) / 2


def _pearson(first: Floats, second: Floats) -> float:
    """Pearson's r; NaN if one side does not vary."""
    import numpy as np

    a, b = first.ravel() - first.mean(), second.ravel() - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-12 else float("nan")
