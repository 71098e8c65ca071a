"""How much of the team's gain the student keeps.

The gain is what a method scores above the aligned checkpoint; the share kept is the student's over
the team's. All three answer the same questions. The unit is the question: its score is the mean
over the seeds; tasks count the same and are held fixed, as in `evaluation/statistics.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from taketurns.evaluation.statistics import (
    RESAMPLES,
    IntervalEstimate,
    SeedScores,
    draw_counts,
    percentile_interval,
)
from taketurns.utils.seeds import generator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Gains:
    """The gains over the aligned checkpoint, and the share of the team's that the student keeps:
    None where the team's may be nothing, because a share of nothing says nothing."""

    student: IntervalEstimate
    team: IntervalEstimate
    kept: IntervalEstimate | None

    def to_json(self) -> dict[str, Any]:
        return {
            "student": self.student.to_json(),
            "team": self.team.to_json(),
            "kept": None if self.kept is None else self.kept.to_json(),
        }


def gains(
    student: Mapping[str, SeedScores],
    aligned: Mapping[str, SeedScores],
    team: Mapping[str, SeedScores],
    *,
    seed: int = 0,
) -> Gains:
    """The gains with percentile bootstrap intervals: questions are resampled within their tasks,
    the same ones for all three, and each figure is made anew of every resample. Scores are
    `[question][seed]` by task. Raises ValueError for different tasks or questions."""
    import numpy as np

    if not (list(student) == list(aligned) == list(team)) or not student:
        raise ValueError("student, aligned and team are compared on the same tasks")
    tables = [
        np.array([[fmean(a), fmean(b), fmean(c)] for a, b, c in zip(*three, strict=True)])
        for three in zip(student.values(), aligned.values(), team.values(), strict=True)
    ]
    draws = generator(seed)
    resampled = np.mean(
        [draw_counts(len(table), RESAMPLES, draws) @ table / len(table) for table in tables], axis=0
    )
    exact = np.mean([table.mean(axis=0) for table in tables], axis=0)

    def figure(value: Any, resamples: NDArray[np.float64]) -> IntervalEstimate:
        low, high = percentile_interval(resamples)
        return IntervalEstimate(float(value), float(low), float(high))

    mine = figure(exact[0] - exact[1], resampled[:, 0] - resampled[:, 1])
    whole = figure(exact[2] - exact[1], resampled[:, 2] - resampled[:, 1])
    if whole.low <= 0:
        return Gains(mine, whole, None)
    over = resampled[:, 2] - resampled[:, 1]
    kept = figure(
        mine.value / whole.value, (resampled[:, 0] - resampled[:, 1])[over > 0] / over[over > 0]
    )
    return Gains(mine, whole, kept)
