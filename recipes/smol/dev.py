"""Each checkpoint alone on the dev questions: which tasks separate two checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from recipes.smol.questions import load_tasks
from taketurns import Team
from taketurns.utils.json_files import read_json, write_json

QUESTIONS = 80  # of a task, at most
KEPT = 4  # tasks for labels, at least
SEPARATED = 2.0  # standard errors

Scores = Mapping[str, Mapping[str, Any]]
"""A checkpoint's scores by task."""


def measure_dev(team_file: Path, name: str, questions: Path, output: Path, limit: int) -> None:
    """Write one candidate's scores on the dev questions of each task, in their order."""
    results: dict[str, Any] = {}
    with Team.load(team_file) as team:
        alone = team.alone(name)
        for task in load_tasks(questions):
            queries = tuple(task.queries("dev"))[:limit]
            traces = alone.generate(queries, seed=0)
            judged = [task.score(q, t.text) for q, t in zip(queries, traces, strict=True)]
            results[task.name] = {
                "mean": fmean(score.value or 0.0 for score in judged),
                "unread": sum(not score.parsed for score in judged),
                "scores": [score.value or 0.0 for score in judged],
            }
    write_json(output, results)


def chosen_tasks(files: list[Path]) -> list[str]:
    """The tasks on which the best and the worst checkpoint differ by `SEPARATED` standard errors of
    their paired difference, the clearest first; at least `KEPT`."""
    checkpoints: list[Scores] = [read_json(file) for file in files]
    clarity = {
        name: _separation([scores[name] for scores in checkpoints]) for name in checkpoints[0]
    }
    ranked = sorted(clarity, key=lambda name: -clarity[name])
    separated = [name for name in ranked if clarity[name] > SEPARATED]
    return separated if len(separated) >= KEPT else ranked[:KEPT]


def _separation(task: list[Mapping[str, Any]]) -> float:
    """The paired difference of the best and the worst checkpoint in standard errors."""
    by_mean = sorted(task, key=lambda scores: scores["mean"])
    worst, best = by_mean[0]["scores"], by_mean[-1]["scores"]
    differences = [b - w for b, w in zip(best, worst, strict=True)]
    mean = fmean(differences)
    variance = fmean((d - mean) ** 2 for d in differences) / max(len(differences) - 1, 1)
    error: float = max(variance**0.5, 1e-9)
    return mean / error
