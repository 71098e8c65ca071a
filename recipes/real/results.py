"""What the steps of `learn.py` came to, in numbers and in lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from taketurns.labels import read_labels

CANDIDATES = ("gemma", "smollm2", "qwen")


def rollouts(path: Path) -> dict[str, Any]:
    """The mean utility of a patch of each candidate, by task, and how often each was best."""
    labels = list(read_labels(path, CANDIDATES))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    tasks: dict[str, Any] = {}
    for task in dict.fromkeys(label.task for label in labels):
        mine = [label for label in labels if label.task == task]
        means = [
            fmean(u for label in mine if (u := label.utilities[index]) is not None)
            for index in range(len(CANDIDATES))
        ]
        tasks[task] = {
            "prefixes": len(mine),
            "tied": sum(label.tied for label in mine),
            "utility": dict(zip(CANDIDATES, (round(mean, 3) for mean in means), strict=True)),
            "best": {
                name: sum(not label.tied and index in label.best for label in mine)
                for index, name in enumerate(CANDIDATES)
            },
        }
    return {"tasks": tasks, "tokens": sum(record["tokens"] for record in records)}


def metrics(folder: Path) -> dict[str, Any]:
    """All that training wrote down."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def evaluation(folder: Path) -> dict[str, Any]:
    """Scores and costs by method."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {
        name: {key: method[key] for key in ("tasks", "average", "cost")}
        for name, method in found["methods"].items()
    }


def line(name: str, step: Mapping[str, Any]) -> str:
    return f"{name}: {step['seconds'] / 60:.1f} minutes"


def markdown(done: Mapping[str, Any]) -> str:
    """The steps as tables."""
    return ""
