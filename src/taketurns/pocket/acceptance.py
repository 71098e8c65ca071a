"""The acceptance test of the shipped checkpoints, from per-question results.

The best of n randomly switched answers must solve more questions than the best of n answers of the
best single checkpoint, with equal n: this is what switching adds beyond repeated sampling. (A test
of the shipped card checks that no checkpoint is best everywhere.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.evaluation.statistics import exact_mcnemar


@dataclass(frozen=True, slots=True)
class PairedShares:
    """Two systems on the same questions: the shares solved, the numbers of questions that only one
    of them solves, and the two-sided p-value of the exact McNemar test."""

    questions: int
    first: float
    second: float
    only_first: int
    only_second: int
    p: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> PairedShares:
    """Exact McNemar test on per-question results. Raises ValueError on different lengths."""
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        raise ValueError("no questions")
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    return PairedShares(
        questions=len(pairs),
        first=sum(a for a, _ in pairs) / len(pairs),
        second=sum(b for _, b in pairs) / len(pairs),
        only_first=only_first,
        only_second=only_second,
        p=exact_mcnemar(only_first, only_second),
    )


def switching_beats_chance(
    switched: Mapping[str, Sequence[bool]],
    single: Mapping[str, Mapping[str, Sequence[bool]]],
) -> tuple[str, PairedShares]:
    """The single checkpoint that solves most questions, and the paired test against it.

    `switched[task]` and `single[checkpoint][task]` have for each question whether any of n answers
    was right. `first` of the result is the switched side.
    """

    def flat(results: Mapping[str, Sequence[bool]]) -> list[bool]:
        return [solved for task in switched for solved in results[task]]

    best = max(single, key=lambda name: sum(flat(single[name])))
    return best, paired(flat(switched), flat(single[best]))
