"""The results of the steps of `learn.py`, as numbers and as lines of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from taketurns.training.distillation.summary import gain_lines, score_lines
from taketurns.training.labels.labels import read_labels
from taketurns.utils.markdown import interval, table_lines

CANDIDATES = ("gemma", "smollm2", "qwen")


def rollouts(path: Path) -> dict[str, Any]:
    """The mean utility of a patch of each candidate, by task, and how often each was best."""
    labels = list(read_labels(path, CANDIDATES))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    tasks: dict[str, Any] = {}
    for task in dict.fromkeys(label.task for label in labels):
        of_task = [label for label in labels if label.task == task]
        means = [
            fmean(u for label in of_task if (u := label.utilities[index]) is not None)
            for index in range(len(CANDIDATES))
        ]
        tasks[task] = {
            "prefixes": len(of_task),
            "tied": sum(label.tied for label in of_task),
            "utility": dict(zip(CANDIDATES, (round(mean, 3) for mean in means), strict=True)),
            "best": {
                name: sum(not label.tied and index in label.best for label in of_task)
                for index, name in enumerate(CANDIDATES)
            },
        }
    return {"tasks": tasks, "tokens": sum(record["tokens"] for record in records)}


def metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a training."""
    written: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return written


def evaluation(folder: Path) -> dict[str, Any]:
    """Scores and costs by method."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {
        name: {key: method[key] for key in ("tasks", "average", "cost")}
        for name, method in results["methods"].items()
    }


def line(name: str, step: Mapping[str, Any]) -> str:
    """The line with a step's minutes."""
    return f"{name}: {step['seconds'] / 60:.1f} minutes"


def markdown(done: Mapping[str, Any]) -> str:
    """The results of every step, as tables."""
    sections = {
        "rollout": _rollouts,
        "language model": _training,
        "head": _training,
        "evaluation": _evaluation,
        "distillation": _distillation,
    }
    minutes = sum(step["seconds"] for step in done.values()) / 60
    parts = ["# Learning on the real team", f"{minutes:.0f} minutes in all."]
    for name, step in done.items():
        parts += [f"## {name.capitalize()}", f"{line(name, step)}: `{step['command']}`"]
        parts.append("\n".join(sections[name](step["results"])))
    return "\n\n".join(parts) + "\n"


def _rollouts(results: Mapping[str, Any]) -> list[str]:
    head = ["task", "prefixes", "all alike", *(f"{n}: utility, best" for n in CANDIDATES)]
    rows = [
        [
            task,
            str(summary["prefixes"]),
            str(summary["tied"]),
            *(f"{summary['utility'][n]:.3f}, {summary['best'][n]}" for n in CANDIDATES),
        ]
        for task, summary in results["tasks"].items()
    ]
    return [*table_lines(head, rows), "", f"{results['tokens']} tokens were written."]


def _training(results: Mapping[str, Any]) -> list[str]:
    judged, beside = results["validation"], results["standards"]
    standards = {"random": beside["random"], **beside["always"], "best": beside["best"]}
    head = ["validation prefixes", "utility of its choice", *standards]
    row = [str(judged["rows"]), f"{judged['utility']:.3f}"]
    return table_lines(head, [[*row, *(f"{value:.3f}" for value in standards.values())]])


def _evaluation(results: Mapping[str, Any]) -> list[str]:
    tasks = list(next(iter(results.values()))["tasks"])
    rows = [
        [
            name,
            *(_share(method["tasks"][task]) for task in tasks),
            _share(method["average"]),
            f"{method['cost']['tokens']:.0f}",
            f"{method['cost']['seconds']:.1f}",
        ]
        for name, method in results.items()
    ]
    return table_lines(["method", *tasks, "average", "tokens", "seconds"], rows)


def _distillation(results: Mapping[str, Any]) -> list[str]:
    compared = results["comparison"]
    place = results["student"]["in_place_of"]
    return [*score_lines(compared, place), "", *gain_lines(compared, place)]


def _share(score: Mapping[str, float]) -> str:
    return interval(score["mean"], score["low"], score["high"])
