"""Score against cost: what no other method beats, and from where on the subject pays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.formatting import DASH
from taketurns.evaluation.report.sections.cells import method_label, percent_change


def render_cost_quality(results: Mapping[str, Any]) -> Iterator[Block]:
    """The frontier, and the subject beside each cheaper method."""
    yield Heading("Is it worth it?")
    for cost, names in results["frontier"].items():
        yield _chart(results, cost, names)
        yield Paragraph(f"No other method beats, by {cost}: {', '.join(names)}.")
    if results["alike"]:
        alike = ", ".join(f"{name} as {other}" for name, other in results["alike"].items())
        yield Paragraph(
            f"Token for token the same, and counted as one with it: {alike}. Where their seconds "
            "differ, that is how well seconds can be measured here."
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
        yield Heading(f"Where {results['subject']} begins to pay", 3)
        yield Table(
            ("beside", "cost, times", "gain needed", "gain", "pays", "one more right costs"), rows
        )
        yield Paragraph(
            "Where a wrong answer can be seen and asked for again, a right one costs cost / score: "
            "a method that costs c times as much pays from a relative gain of c - 1 on. The last "
            "column is what one further right answer costs where nothing is asked again, in "
            "answers of the other method."
        )


def _chart(results: Mapping[str, Any], cost: str, unbeaten: Sequence[str]) -> Chart:
    return Chart(
        f"frontier-{cost}",
        "frontier",
        f"Score against {cost} of every method; the line joins those that no other beats, and "
        "these and the subject are named.",
        tuple(
            DataPoint(
                name if name in (*unbeaten, results["subject"]) else "",
                method["average"]["mean"],
                method["kind"],
                x=method["cost"][cost],
                sure=not method["hindsight"],
            )
            for name, method in results["methods"].items()
            if method["cost"][cost]  # what gave no answer has no cost
        ),
        across=f"{cost} an answer",
        up="mean score over tasks",
    )
