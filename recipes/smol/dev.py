"""Each checkpoint alone on the dev questions: which tasks separate two checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from recipes.smol.questions import load_tasks
from taketurns import Team
from taketurns.utils.files import write_text

QUESTIONS = 80  # of a task, at most
KEPT = 4  # tasks for labels, at least


def measure_dev(team_file: Path, questions: Path, output: Path, limit: int = QUESTIONS) -> None:
    """Write each candidate's scores on the dev questions of each task, in one order."""
    results: dict[str, Any] = {}
    with Team.load(team_file) as team:
        for task in load_tasks(questions):
            queries = tuple(task.queries("dev"))[:limit]
            scores = {}
            for candidate in team.candidates:
                traces = team.alone(candidate.name).generate(queries, seed=0)
                judged = [task.score(q, t.text) for q, t in zip(queries, traces, strict=True)]
                scores[candidate.name] = {
                    "mean": fmean(score.value or 0.0 for score in judged),
                    "unread": sum(not score.parsed for score in judged),
                    "scores": [score.value for score in judged],
                    "tokens": fmean(len(trace.text) for trace in traces),
                }
            results[task.name] = scores
    write_text(output, json.dumps(results, indent=1) + "\n")


def chosen(dev: Path) -> list[str]:
    """The tasks on which the best and the second checkpoint, or the best and the worst, differ
    most: those whose best and worst differ by more than two standard errors, at least `KEPT`."""
    results = json.loads(dev.read_text(encoding="utf-8"))
    ranked = sorted(results, key=lambda name: -_separation(results[name]))
    separated = [name for name in ranked if _separation(results[name]) > 2]
    return separated if len(separated) >= KEPT else ranked[:KEPT]


def _separation(scores: dict[str, Any]) -> float:
    """The paired difference of the best and the worst candidate in standard errors."""
    by_mean = sorted(scores.values(), key=lambda entry: entry["mean"])
    worst, best = by_mean[0]["scores"], by_mean[-1]["scores"]
    differences = [(b or 0.0) - (w or 0.0) for b, w in zip(best, worst, strict=True)]
    mean = fmean(differences)
    variance = fmean((d - mean) ** 2 for d in differences) / max(len(differences) - 1, 1)
    return mean / max(variance**0.5, 1e-9) if mean > 0 else 0.0
