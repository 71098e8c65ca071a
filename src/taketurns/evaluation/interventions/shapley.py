"""What each candidate adds: the score of every part of the pool, leaving out, and Shapley values.

A part of the pool is a set of candidate indices, its worth the mean score of the team made of it.
The empty one is worth nothing. Shapley's value of a candidate is the mean of what it adds over all
orders in which a pool may be put together (Shapley 1953); it is exact, from all 2^n - 1 parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING, Any

from taketurns.evaluation.bootstrap import percentile_interval
from taketurns.evaluation.statistics import FEW_RESAMPLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Part = frozenset[int]
Worth = Mapping[Part, Any]
"""What parts are worth: numbers, or arrays of one shape with a number a resample."""

MOST = 4  # candidates for whom all parts are asked
FEWEST = 3  # tasks without which a correlation has no interval

Added = Callable[[Worth, int], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval; without one where there is too little to resample."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Helpfulness:
    """Of a candidate, over some questions: its score alone, what the pool loses without it, and,
    where all parts were asked, its Shapley value."""

    candidate: int
    alone: Figure
    left_out: Figure
    shapley: Figure | None


@dataclass(frozen=True, slots=True)
class Correlation:
    """Between a candidate's score alone and what it adds, over pairs of a task and a candidate
    (`pairs`), and over candidates of the same task, each less its task's mean (`within`)."""

    pairs: Figure | None
    within: Figure | None


@dataclass(frozen=True, slots=True)
class Study:
    """One way to make do without a candidate: by task, over all tasks, and how what a candidate
    adds goes with its score alone. `shapley` is what it adds on average to a part that is not
    empty: its score alone is no part of that."""

    tasks: Mapping[str, tuple[Helpfulness, ...]]
    whole: tuple[Helpfulness, ...]
    left_out: Correlation
    shapley: Correlation | None


def parts(candidates: int) -> list[Part]:
    """Those that are asked: all up to four candidates, otherwise each alone, each left out, and
    the whole pool."""
    sizes = set(range(1, candidates + 1) if candidates <= MOST else (1, candidates - 1, candidates))
    pool = range(candidates)
    return [Part(some) for size in sorted(sizes) for some in combinations(pool, size)]


def shapley(worth: Worth, candidates: int) -> tuple[Any, ...]:
    """Every candidate's value; together they make the worth of the whole pool. Raises KeyError for
    a part without a worth."""
    return tuple(
        sum(_orders(len(part), candidates) * added for part, added in of)
        for of in _added(worth, candidates)
    )


def beyond_alone(worth: Worth, candidates: int) -> tuple[Any, ...]:
    """What each candidate adds on average to others, at least one of whom is there: Shapley's value
    over the orders in which the candidate does not come first."""
    scale = candidates / (candidates - 1)
    return tuple(
        sum(scale * _orders(len(part), candidates) * added for part, added in of if part)
        for of in _added(worth, candidates)
    )


def left_out(worth: Worth, candidates: int) -> tuple[Any, ...]:
    """What the pool loses without each candidate."""
    whole = Part(range(candidates))
    return tuple(worth[whole] - worth[whole - {own}] for own in range(candidates))


def study(scores: Mapping[str, Mapping[Part, Sequence[float]]], *, seed: int = 0) -> Study:
    """From `scores[task][part]`, one a question (two at least), in one order for all parts.

    Intervals come from resampled questions within their tasks, those of correlations from
    resampled tasks. For a correlation the score alone is measured on every other question and what
    is added on those between, then the other way round: a lucky draw of questions cannot go
    together with itself. What is left of luck pulls correlations towards 0.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    tables = {
        task: {part: np.array(own, dtype=float) for part, own in of.items()}
        for task, of in scores.items()
    }
    asked = set(next(iter(tables.values())))
    count = max(map(len, asked))
    exact = count <= MOST and asked >= set(parts(count))
    means = {task: _means(table) for task, table in tables.items()}
    drawn = {task: _resampled(table, rng) for task, table in tables.items()}
    return Study(
        {task: _helpfulness(means[task], drawn[task], count, exact=exact) for task in tables},
        _helpfulness(_pooled(means), _pooled(drawn), count, exact=exact),
        _correlation(tables, left_out, count, rng),
        _correlation(tables, beyond_alone, count, rng) if exact else None,
    )


def _orders(before: int, candidates: int) -> float:
    """The share of orders in which just these `before` come before a candidate."""
    return factorial(before) * factorial(candidates - before - 1) / factorial(candidates)


def _added(worth: Worth, candidates: int) -> list[list[tuple[Part, Any]]]:
    """For each candidate, every part without it, and what it adds to that."""
    found = []
    for own in range(candidates):
        others = [other for other in range(candidates) if other != own]
        without = [Part(some) for size in range(candidates) for some in combinations(others, size)]
        found.append([(p, worth[p | {own}] - (worth[p] if p else 0.0)) for p in without])
    return found


def _means(table: Mapping[Part, Floats]) -> dict[Part, Any]:
    return {part: own.mean() for part, own in table.items()}


def _resampled(table: Mapping[Part, Floats], rng: np.random.Generator) -> dict[Part, Any]:
    """Each part's mean over so many draws of the questions, the same draws for all parts."""
    count = len(next(iter(table.values())))
    rows = rng.integers(count, size=(FEW_RESAMPLES, count))
    return {part: own[rows].mean(1) for part, own in table.items()}


def _pooled(by_task: Mapping[str, Worth]) -> dict[Part, Any]:
    first = next(iter(by_task.values()))
    return {part: sum(of[part] for of in by_task.values()) / len(by_task) for part in first}


def _helpfulness(means: Worth, drawn: Worth, count: int, *, exact: bool) -> tuple[Helpfulness, ...]:
    lost = zip(left_out(means, count), left_out(drawn, count), strict=True)
    values: list[Figure | None] = [None] * count
    if exact:
        pairs = zip(shapley(means, count), shapley(drawn, count), strict=True)
        values = [_figure(value, tried) for value, tried in pairs]
    return tuple(
        Helpfulness(
            own,
            _figure(means[Part({own})], drawn[Part({own})]),
            _figure(value, tried),
            values[own],
        )
        for own, (value, tried) in enumerate(lost)
    )


def _figure(value: float, drawn: Floats) -> Figure:
    low, high = percentile_interval(drawn)
    return Figure(float(value), float(low), float(high))


def _correlation(
    tables: Mapping[str, Mapping[Part, Floats]],
    added: Added,
    count: int,
    rng: np.random.Generator,
) -> Correlation:
    import numpy as np

    halves = [_halves(table) for table in tables.values()]
    # [half, task, candidate]
    alone = np.array([[[one[Part({i})] for i in range(count)] for one in h] for h in halves])
    adds = np.array([[added(one, count) for one in h] for h in halves])
    alone, adds = alone.swapaxes(0, 1), adds.swapaxes(0, 1)
    tasks = len(halves)
    drawn = np.full((FEW_RESAMPLES, 2), np.nan)
    for at in range(FEW_RESAMPLES if tasks >= FEWEST else 0):
        some = rng.integers(tasks, size=tasks)
        drawn[at] = _crossed(alone[:, some], adds[:, some])
    return Correlation(*map(_found, _crossed(alone, adds), drawn.T))


def _found(value: float, drawn: Floats) -> Figure | None:
    import numpy as np

    if not np.isfinite(value):
        return None
    kept = drawn[np.isfinite(drawn)]
    return Figure(value) if len(kept) < len(drawn) / 2 else _figure(value, kept)


def _halves(table: Mapping[Part, Floats]) -> tuple[Worth, Worth]:
    """The means over every other question and over those between."""
    first, second = ({part: own[at::2].mean() for part, own in table.items()} for at in range(2))
    return first, second


def _crossed(alone: Floats, adds: Floats) -> tuple[float, float]:
    """Both correlations: alone on one half, added on the other; the mean of both ways."""
    found = []
    for own, other in ((0, 1), (1, 0)):
        first, second = alone[own], adds[other]
        within = [matrix - matrix.mean(1, keepdims=True) for matrix in (first, second)]
        found.append((_pearson(first, second), _pearson(*within)))
    (pairs, inside), (pairs_again, inside_again) = found
    return (pairs + pairs_again) / 2, (inside + inside_again) / 2


def _pearson(first: Floats, second: Floats) -> float:
    """nan where one does not vary."""
    import numpy as np

    a, b = first.ravel() - first.mean(), second.ravel() - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-12 else float("nan")
