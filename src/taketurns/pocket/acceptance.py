"""What a shipped trio must meet, from per-question results; nothing is sampled here.

Of n randomly switched answers the best solves more questions than the best of n answers of the best
single checkpoint, n equal on both sides: what switching adds beyond chance. (That no checkpoint is
best everywhere is a test of the shipped card.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.evaluation.statistics import exact_mcnemar


@dataclass(frozen=True, slots=True)
class PairedShares:
    """Two systems on the same questions: shares solved, discordant counts, exact McNemar p.

    The p-value is two-sided.
    """

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
    """The best single checkpoint (most questions solved) and the paired test against it.

    `switched[task]` and `single[checkpoint][task]` say per question whether any of n answers was
    right. `first` of the result is the switched side.
    """

    def flat(results: Mapping[str, Sequence[bool]]) -> list[bool]:
        return [solved for task in switched for solved in results[task]]

    best = max(single, key=lambda name: sum(flat(single[name])))
    return best, paired(flat(switched), flat(single[best]))
