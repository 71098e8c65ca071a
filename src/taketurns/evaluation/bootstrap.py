"""Bootstrap intervals (percentiles) for answers, which are clustered: those to one question are not
independent.

Counts are first summed by question. Then whole questions are resampled within their tasks, so the
interval reflects the number of questions. In numpy.
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
    """A number and its 95 % interval; None where there is too little to resample."""

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
    """A share, a mean or another quotient of sums over `n` questions, with its 95 % interval
    (percentiles of a bootstrap over questions)."""

    value: float
    low: float
    high: float
    n: int


def percentile_interval(resampled: Floats, tail: float = TAIL) -> tuple[Floats, Floats]:
    """The interval of resampled values along the first axis, ignoring NaN: `tail` of them are below
    it and as many above."""
    import warnings

    import numpy as np

    ends = [tail, 1 - tail]
    if not np.isnan(resampled).any():  # many times faster
        low, high = np.quantile(resampled, ends, axis=0)
        return low, high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for columns that have only NaN
        low, high = np.nanquantile(resampled, ends, axis=0)
    return low, high


def draw_counts(n: int, resamples: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """How often each of `n` questions is drawn in each resample of `n` draws with replacement,
    `[resample, question]`."""
    import numpy as np

    return draws.multinomial(n, np.full(n, 1 / n), size=resamples)


def bootstrap_weights(strata: Sequence[str], seed: int = 0) -> Floats:
    """How often each question is drawn in each resample, `[resample, question]`: within each
    stratum (task), as many draws with replacement as it has questions."""
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = np.zeros((FEW_RESAMPLES, len(strata)))
    names = np.array(strata)
    for name in dict.fromkeys(strata):
        at = np.flatnonzero(names == name)
        drawn[:, at] = draw_counts(len(at), FEW_RESAMPLES, rng)
    return drawn


def ratio_estimates(top: Floats, bottom: Floats, drawn: Floats) -> list[Ratio]:
    """For every column the sum of `top` over questions divided by that of `bottom`, both
    `[question, column]`; `drawn` comes from `bootstrap_weights`. NaN where the divisor is 0. A
    share of exactly 0 or 1 has the Wilson interval at the number of questions, because its
    resamples do not vary."""
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
    """Each member's share of each group, from counts `[question, group, member]`."""
    import numpy as np

    questions, groups, members = counts.shape
    below = np.repeat(counts.sum(2), members, axis=1)
    ratios = ratio_estimates(counts.reshape(questions, -1), below, drawn)
    return [tuple(ratios[at * members : (at + 1) * members]) for at in range(groups)]
