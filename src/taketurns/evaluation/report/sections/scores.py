"""Scores and costs of every method, and the best method on each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH
from taketurns.evaluation.report.sections.cells import method_label, score_cell


def render_scores(results: Mapping[str, Any]) -> Iterator[Block]:
    """Every method's mean over tasks with its costs, and its score on every task."""
    methods, tasks = results["methods"], list(results["questions"])
    best = max(m["average"]["mean"] for m in methods.values() if not m["hindsight"])
    rows: list[list[str]] = []
    bold = set()
    for name, method in methods.items():
        leads = method["average"]["mean"] == best and not method["hindsight"]
        if name == results["subject"] or leads:
            bold.add(len(rows))
        deviation, cost = method["seeds"]["deviation"], method["cost"]
        rows.append(
            [
                method_label(name, method),
                method["kind"],
                score_cell(method["average"]),
                DASH if deviation is None else f"{deviation:.3f}",
                f"{cost['tokens']:.0f}",
                f"{cost['passes']:.0f}",
                f"{1000 * cost['seconds']:.1f}",
                str(method["missing"] + method["unscored"]),
            ]
        )
    yield Heading("Scores and costs")
    yield _averages(methods)
    header = ("method", "kind", "mean over tasks", "deviation over seeds", "tokens", "passes", "ms",
              "failed")  # fmt: skip
    yield Table(header, rows, frozenset(bold))
    yield Paragraph(
        "Tokens (newly read and written), forward passes of one row and milliseconds are means "
        "per answer. Failed answers and answers without a score count as wrong. * marks a method "
        "that uses the scores themselves (hindsight); it is left out of the comparisons."
    )
    yield _by_task(methods, tasks)
    yield Table(
        ("method", *tasks),
        [
            [method_label(name, method), *(score_cell(method["tasks"][task]) for task in tasks)]
            for name, method in methods.items()
        ],
    )


def _averages(methods: Mapping[str, Any]) -> Chart:
    """Best first."""
    ranked = sorted(methods.items(), key=lambda item: -item[1]["average"]["mean"])
    return Chart(
        "averages",
        "intervals",
        "Mean score over tasks of each method, with 95 % intervals.",
        tuple(
            DataPoint(
                f"{method_label(name, method)}  {method['average']['mean']:.3f}",
                method["average"]["mean"],
                method["kind"],
                method["average"]["low"],
                method["average"]["high"],
                sure=not method["hindsight"],
            )
            for name, method in ranked
        ),
        across="mean score over tasks, 95 % interval",
    )


def _by_task(methods: Mapping[str, Any], tasks: Sequence[str]) -> Chart:
    best = {
        task: max(m["tasks"][task]["mean"] for m in methods.values() if not m["hindsight"])
        for task in tasks
    }
    points = []
    for name, method in methods.items():
        for task in tasks:
            score = method["tasks"][task]["mean"]
            sure = score == best[task] and not method["hindsight"]
            points.append(DataPoint(method_label(name, method), score, task, sure=sure))
    caption = "Score of each method on each task; a frame marks the best."
    return Chart("tasks", "grid", caption, tuple(points))


def render_leaders(results: Mapping[str, Any]) -> Iterator[Block]:
    """The best method of each kind on every task."""
    kinds = ("single", "baseline", "control", "switch")
    rows = []
    for task, by_kind in results["leaders"]["tasks"].items():
        leaders = (by_kind.get(kind) for kind in kinds)
        cells = [f"{best['name']} {best['score']:.2f}" if best else DASH for best in leaders]
        rows.append([task, results["categories"][task], *cells])
    yield Heading("Best method of each kind by task")
    yield Table(("task", "category", *(f"best {kind}" for kind in kinds)), rows)
