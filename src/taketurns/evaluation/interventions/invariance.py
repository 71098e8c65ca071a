"""Does what a switcher learned carry over? In plain words, with the thresholds that decide them.

A switcher's gain is its score less random switching's on the same questions. Where the candidates
change places, or names, or one of them is another model, a switcher that has learned who writes
what keeps that gain; one that has learned places, names or one model's numbers loses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taketurns.evaluation.statistics import ALPHA, Paired, SeedScores, holm, paired

KEPT = 0.5  # the share of its gain that a switcher which carries over keeps

InvarianceVerdict = Literal[
    "carries over", "loses some", "does not carry over", "refuses", "nothing to lose"
]
TaskScores = Mapping[str, SeedScores]


@dataclass(frozen=True, slots=True)
class PoolChange:
    """A pool that was changed: what was done (`how`), the switcher's answers there (or why it
    `refused`) and, where other models make other scores possible, random switching's there."""

    how: str
    switch: TaskScores | None
    random: TaskScores | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class InvarianceResult:
    """What became of the gain. `there` is the gain in the changed pool, `lost` the scores in the
    unchanged pool less those in the changed one (both None where it refused), `p` the two-sided p
    of `lost`, or of `there` in a pool with other models, after Holm over all changes. `kept` is
    the share of the gain that is left, None where there was none."""

    how: str
    verdict: InvarianceVerdict
    sentence: str
    there: Paired | None
    lost: Paired | None
    kept: float | None
    p: float | None


def measure_invariance(
    switch: TaskScores, random: TaskScores, changes: Sequence[PoolChange], *, seed: int = 0
) -> tuple[Paired, list[InvarianceResult]]:
    """The gain in the unchanged pool, and what every change did to it."""
    gain = paired(switch, random, seed=seed)
    compared = []
    for change in changes:
        there = lost = None
        if change.switch is not None:
            there = paired(change.switch, change.random or random, seed=seed)
            lost = paired(switch, change.switch, seed=seed)
        compared.append((change, there, lost))
    tested = [
        there.p if change.random is not None else lost.p
        for change, there, lost in compared
        if there is not None and lost is not None
    ]
    corrected = iter(holm(tested))
    return gain, [
        _result(gain, change, there, lost, None if lost is None else next(corrected))
        for change, there, lost in compared
    ]


def _result(
    gain: Paired, change: PoolChange, there: Paired | None, lost: Paired | None, p: float | None
) -> InvarianceResult:
    if there is None or lost is None or p is None:
        return InvarianceResult(
            change.how, "refuses", f"It refuses to: {change.refused}", None, None, None, None
        )
    if gain.low <= 0:
        sentence = "Its gain over random switching is not sure to begin with, so none can be lost."
        return InvarianceResult(change.how, "nothing to lose", sentence, there, lost, None, p)
    kept = there.difference / gain.difference
    other = change.random is not None
    worse = (there.low <= 0 or p >= ALPHA) if other else (lost.low > 0 and p < ALPHA)
    verdict: InvarianceVerdict = "carries over"
    if kept < KEPT and worse:
        verdict = "does not carry over"
    elif worse or kept < KEPT:
        verdict = "loses some"
    what = f"{kept:.0%} of its gain over random switching is left"
    sentences = {
        "carries over": f"It carries over: {what}.",
        "loses some": f"It carries over in part, or that is not sure: {what}.",
        "does not carry over": f"It does not carry over: {what}.",
    }
    return InvarianceResult(change.how, verdict, sentences[verdict], there, lost, kept, p)
