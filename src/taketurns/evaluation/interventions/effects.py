"""The effect of a forced sequence of speakers on the score, from the records of `forcing.py`.

The effect of a sequence is the mean of its score minus that of the other sequence at the same
boundary, which was drawn evenly from all others of its length. Each trial counts once for each of
its two sequences. The unit is the query: differences at several boundaries of its answers are
averaged first. Needs scipy and statsmodels (`pip install 'taketurns[eval]'`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any

from taketurns.evaluation.statistics import CONFIDENCE, constant_interval, holm

LEAST = 20  # queries that a sequence needs to be reported

SpeakerSequence = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ForcedDifference:
    """At one boundary: the score with a forced sequence minus that with another one. `taken` of its
    speakers wrote a patch before the answer ended."""

    query: str
    task: str
    category: str
    speakers: SpeakerSequence
    taken: int
    difference: float


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """The mean of differences over queries, with a t interval and the two-sided p of a t test."""

    value: float
    low: float
    high: float
    p: float
    queries: int


@dataclass(frozen=True, slots=True)
class RandomisedEffect:
    """The effect of a sequence. `p` is adjusted by Holm over all sequences of its length, `whole`
    is the share of trials in which all of its speakers wrote. `by_category` has the categories with
    enough queries."""

    speakers: SpeakerSequence
    mean: MeanDifference
    p: float
    whole: float
    by_category: Mapping[str, MeanDifference]


def differences(records: Iterable[Mapping[str, Any]]) -> list[ForcedDifference]:
    """Two differences per pair of arms, one for each sequence."""
    return [
        ForcedDifference(
            record["query"],
            record["task"],
            record["category"],
            tuple(arm["speakers"]),
            arm["taken"],
            arm["score"] - other["score"],
        )
        for record in records
        for first, second in record["pairs"]
        for arm, other in ((first, second), (second, first))
    ]


def effects(
    differences: Sequence[ForcedDifference], length: int, least: int = LEAST
) -> list[RandomisedEffect]:
    """The effect of each sequence of this length with at least `least` queries, in order of the
    speakers' indices."""
    by_sequence: dict[SpeakerSequence, list[ForcedDifference]] = defaultdict(list)
    for difference in differences:
        if len(difference.speakers) == length:
            by_sequence[difference.speakers].append(difference)
    means = {speakers: mean_of(those) for speakers, those in sorted(by_sequence.items())}
    kept = {s: mean for s, mean in means.items() if mean.queries >= least}
    corrected = holm([mean.p for mean in kept.values()])
    return [
        RandomisedEffect(
            speakers,
            mean,
            p,
            fmean(trial.taken == length for trial in by_sequence[speakers]),
            _by_category(by_sequence[speakers], least),
        )
        for (speakers, mean), p in zip(kept.items(), corrected, strict=True)
    ]


def mean_of(differences: Sequence[ForcedDifference]) -> MeanDifference:
    """The mean over queries. Raises ValueError if there are none."""
    by_query: dict[str, list[float]] = defaultdict(list)
    for trial in differences:
        by_query[trial.query].append(trial.difference)
    values = [sum(trials) / len(trials) for trials in by_query.values()]
    count = len(values)
    mean = sum(values) / count
    spread = sqrt(sum((value - mean) ** 2 for value in values) / max(1, count - 1))
    if max(values) == min(values):
        p = 1.0 if mean == 0 else min(1.0, 2.0 ** (1 - count))
        return MeanDifference(mean, *constant_interval(mean, count), p, count)
    from scipy.stats import t

    error = spread / sqrt(count)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1))
    return MeanDifference(mean, mean - half, mean + half, p, count)


def frequencies(
    written: Iterable[Sequence[int | None]], length: int
) -> dict[SpeakerSequence, float]:
    """How often a sequence occurs in answers, as a share of all sequences of its length; forced
    text is skipped."""
    counts: dict[SpeakerSequence, int] = defaultdict(int)
    for answer in written:
        spoke = [speaker for speaker in answer if speaker is not None]
        for at in range(len(spoke) - length + 1):
            counts[tuple(spoke[at : at + length])] += 1
    total = sum(counts.values())
    return {speakers: count / total for speakers, count in counts.items()}


def _by_category(trials: Sequence[ForcedDifference], least: int) -> dict[str, MeanDifference]:
    means = {
        category: mean_of([trial for trial in trials if trial.category == category])
        for category in sorted({trial.category for trial in trials})
    }
    return {category: mean for category, mean in means.items() if mean.queries >= least}
