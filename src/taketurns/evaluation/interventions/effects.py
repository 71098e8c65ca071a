"""What forcing a sequence of speakers does to the score, from the records of `forcing.py`.

A sequence's effect is the mean of its score less that of the other sequence at the same boundary,
which was drawn evenly from all others of its length. Every trial counts once for each of its two
sequences. The unit is the query: differences at several boundaries of its answers are averaged
first. On scipy and statsmodels (`pip install 'taketurns[eval]'`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any

from taketurns.evaluation.statistics import CONFIDENCE, constant_interval, holm

LEAST = 20  # queries without which nothing is said of a sequence

Speakers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """At one boundary: the score after a sequence of speakers less that after another. `taken` of
    its speakers spoke before the answer ended."""

    query: str
    task: str
    category: str
    speakers: Speakers
    taken: int
    difference: float


@dataclass(frozen=True, slots=True)
class Mean:
    """Of differences over queries, with a t interval and the two-sided p of a t test."""

    value: float
    low: float
    high: float
    p: float
    queries: int


@dataclass(frozen=True, slots=True)
class Effect:
    """A sequence's effect; `p` is Holm's over all sequences of its length, `whole` the share of
    trials in which all of its speakers spoke. `by_category` has those with enough queries."""

    speakers: Speakers
    mean: Mean
    p: float
    whole: float
    by_category: Mapping[str, Mean]


def differences(records: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Two a pair of arms."""
    found = []
    for record in records:
        for first, second in record["pairs"]:
            for own, other in ((first, second), (second, first)):
                found.append(
                    Difference(
                        record["query"],
                        record["task"],
                        record["category"],
                        tuple(own["speakers"]),
                        own["taken"],
                        own["score"] - other["score"],
                    )
                )
    return found


def effects(found: Sequence[Difference], length: int, least: int = LEAST) -> list[Effect]:
    """Of every sequence of this length with at least so many queries, in order of the speakers'
    indices."""
    by_sequence: dict[Speakers, list[Difference]] = defaultdict(list)
    for one in found:
        if len(one.speakers) == length:
            by_sequence[one.speakers].append(one)
    means = {s: mean_of(own) for s, own in sorted(by_sequence.items())}
    kept = {s: mean for s, mean in means.items() if mean.queries >= least}
    corrected = holm([mean.p for mean in kept.values()])
    return [
        Effect(
            speakers,
            mean,
            p,
            fmean(one.taken == length for one in by_sequence[speakers]),
            _by_category(by_sequence[speakers], least),
        )
        for (speakers, mean), p in zip(kept.items(), corrected, strict=True)
    ]


def mean_of(found: Sequence[Difference]) -> Mean:
    """Over queries. Raises ValueError where there is none."""
    by_query: dict[str, list[float]] = defaultdict(list)
    for one in found:
        by_query[one.query].append(one.difference)
    values = [sum(own) / len(own) for own in by_query.values()]
    count = len(values)
    mean = sum(values) / count
    spread = sqrt(sum((value - mean) ** 2 for value in values) / max(1, count - 1))
    if max(values) == min(values):
        p = 1.0 if mean == 0 else min(1.0, 2.0 ** (1 - count))
        return Mean(mean, *constant_interval(mean, count), p, count)
    from scipy.stats import t

    error = spread / sqrt(count)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1))
    return Mean(mean, mean - half, mean + half, p, count)


def frequencies(written: Iterable[Sequence[int | None]], length: int) -> dict[Speakers, float]:
    """How often a sequence stands in answers, as a share of all of its length; forced text is left
    aside."""
    counts: dict[Speakers, int] = defaultdict(int)
    for answer in written:
        spoke = [speaker for speaker in answer if speaker is not None]
        for at in range(len(spoke) - length + 1):
            counts[tuple(spoke[at : at + length])] += 1
    total = sum(counts.values())
    return {speakers: count / total for speakers, count in counts.items()}


def _by_category(found: Sequence[Difference], least: int) -> dict[str, Mean]:
    means = {
        category: mean_of([one for one in found if one.category == category])
        for category in sorted({one.category for one in found})
    }
    return {category: mean for category, mean in means.items() if mean.queries >= least}
