"""All statistics: means with intervals, comparisons of two methods, resampling.

Scores are `values[task][question][seed]`. The unit is the question: its score is the mean over the
seeds, so answers to one question are never counted as independent. Tasks have equal weight, however
many questions they have, and are held fixed: conclusions hold for further questions of these
tasks. The variation from seed to seed is reported apart (`spread`).

Means, their intervals and `holm` are plain Python; `paired` and `tally` need scipy and statsmodels
(`pip install 'taketurns[eval]'`), which are imported when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import comb, sqrt
from statistics import NormalDist, fmean, stdev, variance
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SeedScores = Sequence[Sequence[float]]
"""`[question][seed]`, with the same order of questions for all methods."""

CONFIDENCE = 0.95
"""The level of every interval."""
TAIL = (1 - CONFIDENCE) / 2
PERCENT_TAIL = 0.025
"""`TAIL` without its rounding error of 2e-17. Figures that are written with all digits were made
with one of the two, and keep their last digit."""
Z = NormalDist().inv_cdf(0.975)
ALPHA = 0.05
"""A difference is significant if its p, adjusted for all tests, is lower."""
RESAMPLES = 9999
"""Resamples of a bootstrap or a permutation test between methods."""
FEW_RESAMPLES = 2000
"""Resamples where many figures are computed anew in each. Stored figures were made with this
number; another number would change them."""

OTHER_TASKS = "the two methods must have scores of the same tasks, at least one"


@dataclass(frozen=True, slots=True)
class Share:
    """A mean of scores in 0..1 and its 95 % interval, over `n` questions, each answered once per
    seed."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


def share(answers: SeedScores) -> Share:
    """The mean of `answers[question][seed]` with a Wilson interval at the effective number of
    independent answers. It lies between the number of questions and that of all answers: the more
    the answers to one question agree, the lower it is."""
    means = [fmean(question) for question in answers]
    mean, questions = fmean(means), len(means)
    most = sum(map(len, answers))
    of_mean = variance(means) / questions if questions > 1 else 0.0
    if of_mean > 0:
        independent = mean * (1 - mean) / of_mean
    else:  # all questions have equal means; their answers may differ
        independent = most if questions > 1 and 0 < mean < 1 else questions
    low, high = wilson(mean, min(max(independent, questions), most))
    return Share(mean, low, high, questions)


def average(tasks: Mapping[str, SeedScores]) -> Share:
    """The mean over tasks, each with equal weight, with a normal interval."""
    shares = [share(answers) for answers in tasks.values()]
    mean = fmean(task.mean for task in shares)
    # A task with equal answers still has a Wilson interval, which serves as its deviation.
    spread = sqrt(sum((task.high - task.low) ** 2 for task in shares)) / 2 / len(shares)
    low, high = max(0.0, mean - spread), min(1.0, mean + spread)
    return Share(mean, low, high, sum(task.n for task in shares))


def wilson(mean: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share `mean` of `n` answers; `n` need not be whole."""
    scale = 1 + Z * Z / n
    middle = (mean + Z * Z / (2 * n)) / scale
    half = Z / scale * sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def constant_interval(difference: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a difference that is equal on all `n` questions, where resampling gives
    no width: its half-width is the upper end of the Wilson interval of 0 of `n`."""
    wide = wilson(0.0, n)[1]
    return max(-1.0, difference - wide), min(1.0, difference + wide)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p of the exact McNemar test, from the questions that only one of two gets
    right."""
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(discordant, k) for k in range(fewer + 1))
    return min(1.0, float(Fraction(2 * tail, 2**discordant)))


@dataclass(frozen=True, slots=True)
class Paired:
    """Two methods on the same questions: the mean difference, first minus second, with its BCa
    bootstrap interval, and the two-sided p of a paired permutation test.

    If every score is 0 or 1: the numbers of questions that only the first or only the second gets
    right in most seeds, and the exact McNemar p; None for graded scores.
    """

    difference: float
    low: float
    high: float
    p: float
    questions: int
    only_first: int | None = None
    only_second: int | None = None
    mcnemar: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Two methods over tasks: the numbers of tasks where the first is higher, equal and lower, and
    the two-sided p of Wilcoxon's signed-rank test on the tasks' differences."""

    wins: int
    ties: int
    losses: int
    wilcoxon: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Variation from seed to seed: the mean over tasks with each seed and its standard deviation
    (None for one seed), and the variance of a single answer's score, divided into the part between
    questions and the part between answers to one question (None for one seed)."""

    by_seed: tuple[float, ...]
    deviation: float | None
    between_questions: float
    within_questions: float | None


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of a method over another.

    `relative` is the mean over tasks of the gain divided by the other's score, as in the paper;
    `left_out` tasks, where the other scores 0, do not count (None if no task is left). `of_average`
    is the relative gain of the averages. `absolute` is the mean difference.
    """

    relative: float | None
    left_out: int
    of_average: float | None
    absolute: float


@dataclass(frozen=True, slots=True)
class PearsonCorrelation:
    """Pearson's r over `count` sequences, with Fisher's 95 % interval and the two-sided p."""

    count: int
    r: float
    low: float
    high: float
    p: float


def paired(
    first: Mapping[str, SeedScores], second: Mapping[str, SeedScores], *, seed: int = 0
) -> Paired:
    """Compare two methods on the same questions of the same tasks. Raises ValueError if the tasks
    or questions differ."""
    if list(first) != list(second) or not first:
        raise ValueError(OTHER_TASKS)
    mine, other = _question_means(first), _question_means(second)
    differences = [a - b for a, b in zip(mine, other, strict=True)]
    low, high = _bootstrap(differences, seed)
    only_first, only_second, mcnemar = _mcnemar(first, second)
    return Paired(
        difference=float(fmean(d.mean() for d in differences)),
        low=low,
        high=high,
        p=_permutation(differences, seed),
        questions=sum(map(len, differences)),
        only_first=only_first,
        only_second=only_second,
        mcnemar=mcnemar,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number by Holm's method, in their order."""
    # By statsmodels each call frees garbage in the whole process, which takes a second and more
    # beside torch (`findings/statsmodels-holm-frees-garbage.sh`).
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        adjusted[place] = min(1.0, largest)
    return adjusted


def holm_known(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted by Holm's method, in their order; None stays None, uncounted."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def tally(first: Mapping[str, float], second: Mapping[str, float]) -> Tally:
    """Compare two methods' scores over tasks. Raises ValueError if the tasks differ."""
    from scipy.stats import wilcoxon

    if set(first) != set(second) or not first:
        raise ValueError(OTHER_TASKS)
    # Rounded, so that equal means of sums in another order are equal.
    differences = [round(first[task] - second[task], 12) for task in first]
    different = [d for d in differences if d]
    p = float(wilcoxon(different).pvalue) if different else 1.0
    wins = sum(d > 0 for d in differences)
    return Tally(wins, len(differences) - len(different), len(different) - wins, p)


def spread(values: Mapping[str, SeedScores]) -> Spread:
    """Separate the variance between seeds from that between questions. All questions must have the
    same number of seeds."""
    seeds = len(next(iter(values.values()))[0])
    by_seed = tuple(
        fmean(fmean(question[seed] for question in answers) for answers in values.values())
        for seed in range(seeds)
    )
    means = [[fmean(question) for question in answers] for answers in values.values()]
    of_means = fmean(variance(task) if len(task) > 1 else 0.0 for task in means)
    if seeds == 1:
        return Spread(by_seed, None, of_means, None)
    within = fmean(fmean(map(variance, answers)) for answers in values.values())
    return Spread(by_seed, stdev(by_seed), max(0.0, of_means - within / seeds), within)


def gain(first: Mapping[str, float], second: Mapping[str, float]) -> Gain:
    """The gain of the first's scores by task over the second's."""
    if set(first) != set(second) or not first:
        raise ValueError(OTHER_TASKS)
    mine, other = fmean(first.values()), fmean(second.values())
    ratios = [(first[task] - second[task]) / second[task] for task in first if second[task] > 0]
    return Gain(
        relative=fmean(ratios) if ratios else None,
        left_out=len(first) - len(ratios),
        of_average=(mine - other) / other if other > 0 else None,
        absolute=mine - other,
    )


def pearson(pairs: Sequence[tuple[float, float]]) -> PearsonCorrelation | None:
    """The correlation of the pairs; None for fewer than four, or if one side does not vary."""
    if len(pairs) < 4 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    from scipy.stats import pearsonr

    result = pearsonr(*zip(*pairs, strict=True))
    low, high = result.confidence_interval(CONFIDENCE)
    figures = map(float, (result.statistic, low, high, result.pvalue))
    return PearsonCorrelation(len(pairs), *figures)


def combined(
    methods: Sequence[Mapping[str, float]], how: Literal["mean", "best"]
) -> dict[str, float]:
    """One score per task from several methods: their "mean", or the "best" of them."""
    columns = {task: [scores[task] for scores in methods] for task in methods[0]}
    return {
        task: max(column) if how == "best" else fmean(column) for task, column in columns.items()
    }


def _question_means(values: Mapping[str, SeedScores]) -> list[Floats]:
    import numpy as np

    return [np.array([fmean(question) for question in answers]) for answers in values.values()]


def _bootstrap(differences: Sequence[Floats], seed: int) -> tuple[float, float]:
    """BCa over questions, resampled within their tasks."""
    import numpy as np
    from scipy.stats import bootstrap

    middle = float(fmean(d.mean() for d in differences))
    if all(np.ptp(d) == 0 for d in differences):
        return constant_interval(middle, sum(map(len, differences)))

    def statistic(*groups: Floats, axis: int = -1) -> Any:
        return sum(group.mean(axis=axis) for group in groups) / len(groups)

    # scipy needs two values: a task's only question is given twice, which resamples the same.
    groups = [np.repeat(d, 2) if len(d) == 1 else d for d in differences]

    def interval(method: str) -> tuple[float, float]:
        ends = bootstrap(
            groups,
            statistic,
            n_resamples=RESAMPLES,
            batch=1000,
            vectorized=True,
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return float(ends.low), float(ends.high)

    # BCa's acceleration needs two questions per task, its correction resamples on both sides.
    if any(len(d) < 2 for d in differences):
        return interval("percentile")
    with np.errstate(all="ignore"):
        low, high = interval("BCa")
    return (low, high) if np.isfinite([low, high]).all() else interval("percentile")


def _permutation(differences: Sequence[Floats], seed: int) -> float:
    """Two-sided p of the mean over tasks, from exchanges of the two methods' scores question by
    question; exact if there are at most RESAMPLES possible exchanges."""
    import numpy as np
    from scipy.stats import permutation_test

    weighted = np.concatenate([d / (len(d) * len(differences)) for d in differences])
    weighted = weighted[weighted != 0]  # exchanging equal scores changes nothing
    if len(weighted) < 2:
        return 1.0

    def statistic(first: Floats, second: Floats, axis: int = -1) -> Any:
        return (first - second).sum(axis=axis)

    test = permutation_test(
        (weighted / 2, -weighted / 2),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _mcnemar(
    first: Mapping[str, SeedScores], second: Mapping[str, SeedScores]
) -> tuple[int, int, float] | tuple[None, None, None]:
    """The numbers of questions that only the first and only the second get right in most seeds, and
    p of the exact test on them; None if a score is neither 0 nor 1."""
    from statsmodels.stats.contingency_tables import mcnemar

    if any(value not in (0.0, 1.0) for values in (first, second) for value in _flat(values)):
        return None, None, None
    pairs = [
        (fmean(a) > 0.5, fmean(b) > 0.5)
        for task in first
        for a, b in zip(first[task], second[task], strict=True)
    ]
    both, neither = sum(a and b for a, b in pairs), sum(not a and not b for a, b in pairs)
    only_first, only_second = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    table = [[both, only_first], [only_second, neither]]
    p = float(mcnemar(table, exact=True).pvalue) if only_first + only_second else 1.0
    return only_first, only_second, p


def _flat(values: Mapping[str, SeedScores]) -> list[float]:
    return [value for answers in values.values() for question in answers for value in question]
