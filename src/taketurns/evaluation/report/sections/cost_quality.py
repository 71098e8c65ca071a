"""Score against cost: the Pareto frontier, and the break-even point of the subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH
from taketurns.evaluation.report.sections.cells import method_label, percent_change


def render_cost_quality(results: Mapping[str, Any]) -> Iterator[Block]:
    """The frontier, and the subject compared with each cheaper method."""
    yield Heading("Cost and quality")
    for cost, names in results["frontier"].items():
        yield _chart(results, cost, names)
        yield Paragraph(
            f"On the Pareto frontier by {cost}: {', '.join(names)}. No other method is as good "
            "for less, or better for as much."
        )
    if results["alike"]:
        alike = ", ".join(f"{name} as {other}" for name, other in results["alike"].items())
        yield Paragraph(
            f"Identical to another method token for token, and counted once: {alike}. The "
            "difference of their seconds is the error of measurement."
        )
    rows = [
        [
            f"{method_label(name, results['methods'][name])}, {cost}",
            f"{even['cost']:.2f}",
            percent_change(even["needed"]),
            percent_change(even["gain"]),
            "yes" if even["pays"] else "no",
            DASH if even["each"] is None else f"{even['each']:.1f}",
        ]
        for name in results["worth"]["tokens"]
        if results["methods"][name]["kind"] == "single" or name in ("best-of-n", "vote")
        for cost, by_name in results["worth"].items()
        if (even := by_name.get(name)) is not None
    ]
    if rows:
        yield Heading(f"Break-even of {results['subject']}", 3)
        yield Table(
            ("compared with", "relative cost", "gain needed", "gain", "pays",
             "cost of one more right answer"),
            rows,
        )  # fmt: skip
        yield Paragraph(
            "If a wrong answer can be recognised and the question asked again, a right answer "
            "costs cost / score: a method that costs c times as much pays if its relative gain is "
            "at least c - 1. The last column is the cost of one further right answer without "
            "asking again, in answers of the other method."
        )


def _chart(results: Mapping[str, Any], cost: str, unbeaten: Sequence[str]) -> Chart:
    return Chart(
        f"frontier-{cost}",
        "frontier",
        f"Score against {cost} of every method. The line is the Pareto frontier; its methods and "
        "the subject are labelled.",
        tuple(
            DataPoint(
                name if name in (*unbeaten, results["subject"]) else "",
                method["average"]["mean"],
                method["kind"],
                x=method["cost"][cost],
                sure=not method["hindsight"],
            )
            for name, method in results["methods"].items()
            if method["cost"][cost]  # a method without any answer has no cost
        ),
        across=f"{cost} per answer",
        up="mean score over tasks",
    )
