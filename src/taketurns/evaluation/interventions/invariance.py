"""Does a switcher generalise to a changed pool? A verdict, with the thresholds that decide it.

A switcher's gain is its score minus that of random switching on the same questions. The candidates
change places or names, or one of them becomes another model. A switcher that has learned what each
candidate is good at keeps its gain; one that has learned positions, names or the hidden states of
one model loses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taketurns.evaluation.statistics import ALPHA, Paired, SeedScores, holm, paired

KEPT = 0.5  # share of the gain that a switcher must keep to carry over

InvarianceVerdict = Literal[
    "carries over", "loses some", "does not carry over", "refuses", "nothing to lose"
]
TaskScores = Mapping[str, SeedScores]


@dataclass(frozen=True, slots=True)
class PoolChange:
    """A changed pool: the change (`how`), the scores of the switcher in it (or why it `refused`)
    and, if it has other models, the scores of random switching in it."""

    how: str
    switch: TaskScores | None
    random: TaskScores | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class InvarianceResult:
    """The effect of a change on the gain. `there` is the gain in the changed pool, `lost` the
    scores in the unchanged pool minus those in the changed one (both None if the switcher refused).
    `p` is the two-sided p of `lost`, or of `there` in a pool with other models, after Holm over all
    changes. `kept` is the share of the gain that is left, None if there was no gain."""

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
    """The gain in the unchanged pool, and the effect of each change on it."""
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
            change.how, "refuses", f"the switcher refuses: {change.refused}", None, None, None, None
        )
    if gain.low <= 0:
        sentence = "in the unchanged pool the gain is not significant, so no loss can be measured."
        return InvarianceResult(change.how, "nothing to lose", sentence, there, lost, None, p)
    kept = there.difference / gain.difference
    other = change.random is not None
    worse = (there.low <= 0 or p >= ALPHA) if other else (lost.low > 0 and p < ALPHA)
    verdict: InvarianceVerdict = "carries over"
    if kept < KEPT and worse:
        verdict = "does not carry over"
    elif worse or kept < KEPT:
        verdict = "loses some"
    what = f"the switcher keeps {kept:.0%} of its gain over random switching"
    sentences = {
        "carries over": f"{what}; it carries over.",
        "loses some": f"{what}; it carries over in part, or the loss is not significant.",
        "does not carry over": f"{what}; it does not carry over.",
    }
    return InvarianceResult(change.how, verdict, sentences[verdict], there, lost, kept, p)
