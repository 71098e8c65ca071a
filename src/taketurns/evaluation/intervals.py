"""Means of scores with intervals, in plain Python: what commands show that run without the
statistics extra. `evaluation/statistics.py` has the tests.

The unit is the question: answers of several seeds to one question are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, variance

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Share:
    """A mean of scores in 0..1 and its 95 % interval, over `n` questions, each answered as often as
    there are seeds."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float]:
        return {
            "mean": round(self.mean, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "n": self.n,
        }


def share(answers: Sequence[Sequence[float]]) -> Share:
    """The mean of `answers[question][seed]` with a Wilson interval at the number of answers that
    would be as sure if they were independent: between the questions and all answers, as the
    answers to one question agree more or less."""
    means = [fmean(question) for question in answers]
    mean, questions = fmean(means), len(means)
    most = sum(map(len, answers))
    of_mean = variance(means) / questions if questions > 1 else 0.0
    if of_mean > 0:
        independent = mean * (1 - mean) / of_mean
    else:  # nothing differs between questions; within them all may
        independent = most if questions > 1 and 0 < mean < 1 else questions
    low, high = wilson(mean, min(max(independent, questions), most))
    return Share(mean, low, high, questions)


def average(tasks: Mapping[str, Sequence[Sequence[float]]]) -> Share:
    """The mean over tasks, each counting the same, with a normal interval."""
    shares = [share(answers) for answers in tasks.values()]
    mean = fmean(one.mean for one in shares)
    # A task that all answers agree on still has an interval: Wilson's, taken as its deviation.
    spread = sqrt(sum((one.high - one.low) ** 2 for one in shares)) / 2 / len(shares)
    low, high = max(0.0, mean - spread), min(1.0, mean + spread)
    return Share(mean, low, high, sum(one.n for one in shares))


def wilson(mean: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share `mean` of `n` answers; `n` need not be whole."""
    scale = 1 + Z * Z / n
    middle = (mean + Z * Z / (2 * n)) / scale
    half = Z / scale * sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
