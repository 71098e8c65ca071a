"""The results of a comparison as text, for the card, the command and the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def gain_lines(compared: Mapping[str, Any], aligned: str) -> list[str]:
    """Two lines: the share of the gain that is kept with the gains, and the costs."""
    gain, ratio = compared["gain"], compared["cost_ratio"]
    kept = gain["kept"]
    kept_share = (
        f"gain kept: {_percent(kept)}"
        if kept is not None
        else "gain kept: undetermined, because the team's gain may be zero"
    )
    costs = ", ".join(f"{what} {value:.2f}" for what, value in ratio.items())
    student, team = _signed(gain["student"]), _signed(gain["team"])
    return [
        f"{kept_share} (student {student}, team {team} over {aligned})",
        f"cost of an answer relative to the team's: {costs}",
    ]


def score_lines(compared: Mapping[str, Any], aligned: str) -> list[str]:
    """The lines of a Markdown table of scores with intervals, one row per task."""
    scores = compared["scores"]
    names = {"student": "student", "aligned": aligned, "team": "team"}
    rows = [["task", *(names[method] for method in scores)], ["---"] * (len(scores) + 1)]
    for task in scores["team"]:
        cells = [scores[method][task] for method in scores]
        rows.append([task, *(f"{c['mean']:.3f} ({c['low']:.3f}-{c['high']:.3f})" for c in cells)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.0%} ({estimate['low']:.0%} to {estimate['high']:.0%})"


def _signed(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f})"
