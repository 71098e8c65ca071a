"""Resampling: percentile intervals, and figures of answers that come in clusters, since those to
one question are not independent.

Whatever is counted is first summed up by question; questions are then drawn again, whole and within
their tasks, so that an interval knows how few questions there are. In numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from taketurns.evaluation.statistics import FEW_RESAMPLES, PERCENT_TAIL, TAIL, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from taketurns.evaluation.statistics import Floats


@dataclass(frozen=True, slots=True)
class BootstrapEstimate:
    """A number and its 95 % interval; without one where there is too little to resample."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {
            name: None if number is None else round(number, 6)
            for name, number in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """A share, a mean or another quotient of sums, with its 95 % interval (bootstrap over
    questions, percentiles); `n` questions have part in it."""

    value: float
    low: float
    high: float
    n: int


def percentile_interval(resampled: Floats, tail: float = TAIL) -> tuple[Floats, Floats]:
    """The percentiles of resampled values along the first axis, without those that are NaN; `tail`
    is left out on either side."""
    import warnings

    import numpy as np

    ends = [tail, 1 - tail]
    if not np.isnan(resampled).any():  # many times faster
        low, high = np.quantile(resampled, ends, axis=0)
        return low, high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are NaN throughout
        low, high = np.nanquantile(resampled, ends, axis=0)
    return low, high


def draw_counts(n: int, resamples: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """How often each of `n` questions is drawn in each resample, `[resample, question]`: `n` draws
    with replacement."""
    import numpy as np

    return draws.multinomial(n, np.full(n, 1 / n), size=resamples)


def bootstrap_weights(strata: Sequence[str], seed: int = 0) -> Floats:
    """How often each question is drawn in each resample, `[resample, question]`: as many questions
    as there are of each stratum (task), with replacement."""
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = np.zeros((FEW_RESAMPLES, len(strata)))
    names = np.array(strata)
    for name in dict.fromkeys(strata):
        at = np.flatnonzero(names == name)
        drawn[:, at] = draw_counts(len(at), FEW_RESAMPLES, rng)
    return drawn


def ratio_estimates(top: Floats, bottom: Floats, drawn: Floats) -> list[Ratio]:
    """The quotient of sums over questions for every column; both are `[question, column]`, drawn
    as `bootstrap_weights` gives. NaN where nothing is below. A share of nothing or everything has
    Wilson's interval at the number of questions, since resampling cannot widen it."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        values = top.sum(0) / bottom.sum(0)
        tried = (drawn @ top) / (drawn @ bottom)
    low, high = percentile_interval(tried, PERCENT_TAIL)
    counts = (bottom != 0).sum(0)
    ratios = []
    for value, least, most, n in zip(values, low, high, counts, strict=True):
        if least == most and value in (0.0, 1.0):
            least, most = wilson(float(value), int(n))
        ratios.append(Ratio(float(value), float(least), float(most), int(n)))
    return ratios


def shares_within(counts: Floats, drawn: Floats) -> list[tuple[Ratio, ...]]:
    """Each member's share of each group, of counts `[question, group, member]`."""
    import numpy as np

    questions, groups, members = counts.shape
    below = np.repeat(counts.sum(2), members, axis=1)
    ratios = ratio_estimates(counts.reshape(questions, -1), below, drawn)
    return [tuple(ratios[at * members : (at + 1) * members]) for at in range(groups)]
