"""Answers of teams of several sizes, and their scores against the price of their tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.answering import answer_tasks, bootstrap
from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.pocket.tasks import TASKS
from taketurns.runs.progress import Progress
from taketurns.tasks.base import Task
from taketurns.types import Trace
from taketurns.utils.markdown import interval

WIDTHS = {"small": 64, "medium": 128, "large": 256}
QUESTIONS, SEEDS = 60, 3  # test questions a task, seeds


def answer(team_file: Path, method: str, path: Path) -> None:
    """Write a line for every answer to test questions: its score, and its tokens by model."""
    with Progress(method, QUESTIONS * SEEDS * len(TASKS)) as progress:

        async def ask() -> dict[str, list[list[dict[str, Any]]]]:
            async with Team.load(load_team_config(team_file)) as whole:
                team = whole.alone(method) if method in WIDTHS else whole
                names = [candidate.name for candidate in team.candidates]

                def record(task: Task, trace: Trace) -> dict[str, Any]:
                    tokens = dict.fromkeys(WIDTHS, 0)
                    for patch in trace.patches:
                        tokens[names[patch.speaker or 0]] += len(patch.token_ids)
                    progress.advance(trace.tokens)
                    score = task.score(trace.query, trace.text).value or 0.0
                    query = trace.query.id
                    return {"task": task.name, "query": query, "score": score, "tokens": tokens}

                return await answer_tasks(team, record, "test", QUESTIONS, SEEDS)

        answers = asyncio.run(ask())
    lines = [json.dumps(row) for task in answers.values() for rows in task for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parameters(folder: Path) -> int:
    """The number of parameters of a model."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total


def prices(work: Path, large: float) -> dict[str, float]:
    """A token's price by model, in proportion to the parameters that compute it."""
    sizes = {name: parameters(work / name / "sft") for name in WIDTHS}
    return {name: large * size / sizes["large"] for name, size in sizes.items()}


def frontier(work: Path, methods: Iterable[str]) -> None:
    """Score and cost of each method, with intervals over questions, as JSON and as a plot."""
    price = prices(work, 1.0)
    points = {m: point(work / "answers" / f"{m}.jsonl", price) for m in methods}
    plot(points, work / "frontier.png")
    document = {"parameters": {n: parameters(work / n / "sft") for n in WIDTHS}, "test": points}
    (work / "frontier.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for method, measured in points.items():
        score = interval(measured["score"], *measured["interval"])
        print(f"{method:14} score {score}  cost {measured['cost']:.1f}")


def point(path: Path, price: Mapping[str, float]) -> dict[str, Any]:
    """The mean over tasks of the score, bootstrapped over questions within tasks, and the mean cost
    of an answer in tokens of the large model."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scores = np.array([row["score"] for row in rows]).reshape(-1, QUESTIONS, SEEDS).mean(2)
    estimate = bootstrap(scores.shape, lambda mean: mean(scores))
    cost = [sum(price[name] * count for name, count in row["tokens"].items()) for row in rows]
    return {
        "score": estimate.value,
        "interval": [estimate.low, estimate.high],
        "cost": fmean(cost),
        "tokens": {name: fmean(row["tokens"][name] for row in rows) for name in WIDTHS},
    }


def plot(points: Mapping[str, Any], path: Path) -> None:
    """Score against cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for method, measured in points.items():
        alone = method in WIDTHS
        cost, score, (low, high) = measured["cost"], measured["score"], measured["interval"]
        marker = "s" if alone else "o"
        error = [[score - low], [high - score]]
        axes.errorbar(cost, score, error, fmt=marker, capsize=3, label=method)
        end, rise, side = (low, -4, "top") if alone else (high, 4, "bottom")
        place: dict[str, Any] = {"xytext": (0, rise), "textcoords": "offset points"}
        axes.annotate(method, (cost, end), ha="center", va=side, **place)
    axes.set_xlabel("price of written tokens, in tokens of the large model")
    axes.set_ylabel("score, mean over tasks, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
