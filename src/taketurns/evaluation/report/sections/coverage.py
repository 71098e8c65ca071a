"""How many of the questions that no checkpoint solves alone each method solves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Heading, Paragraph, Table


def render_coverage(results: Mapping[str, Any]) -> Iterator[Block]:
    """The section of an evaluation's report; no blocks where it was not measured."""
    if results["beyond"] is not None:
        yield Heading("Questions that no checkpoint solves alone")
        yield from coverage_blocks(results["beyond"])


def coverage_blocks(coverage: Mapping[str, Any]) -> tuple[Paragraph, Table]:
    """The measurement and its result, from an `UnsolvedCoverage` as JSON."""
    subject = coverage["subject"]
    against = {control["control"]: control for control in coverage["against"]}
    tried = sorted(coverage["tried"], key=lambda method: -method["share"])
    rows = []
    for method in tried:
        cells = [
            method["name"],
            f"{method['solved']:.1f}".removesuffix(".0"),
            fmt.with_interval(method["share"], method["low"], method["high"], to=fmt.DASH),
        ]
        if (less := against.get(method["name"])) is not None:
            cells += [
                fmt.difference(less["difference"], less["low"], less["high"]),
                fmt.p_value(less["p"]),
                fmt.p_value(less["p_holm"]),
            ]
        rows.append(cells + [""] * (6 - len(cells)))
    bold = frozenset(row for row, method in enumerate(tried) if method["name"] == subject)
    return (
        Paragraph(
            f"{fmt.counted(coverage['defining'], 'answer')} of each checkpoint decide which "
            f"questions no checkpoint solves ({coverage['left']:.1f} of {coverage['questions']} on "
            f"average over {fmt.counted(coverage['rounds'], 'way')} to divide the seeds). On these "
            f"each method gets {fmt.counted(coverage['tries'], 'new answer')} per question. A "
            "checkpoint that solves some of them now does so by chance. A method with more varied "
            "answers, such as random switching, solves more of them by chance."
        ),
        Table(("method", "solved", "share", f"{subject} minus it", "p", "Holm"), rows, bold),
    )
