"""Questions that no checkpoint solves alone, as a section."""

from __future__ import annotations

from dataclasses import asdict

from taketurns.evaluation.report.blocks import Chart, DataPoint
from taketurns.evaluation.report.formatting import joined, significant
from taketurns.evaluation.report.section import Section
from taketurns.evaluation.report.sections.coverage import coverage_blocks
from taketurns.evaluation.unsolved_coverage import UnsolvedCoverage


def render_coverage(coverage: UnsolvedCoverage | None, lacks: str = "") -> Section:
    """How many questions each method solves that no checkpoint solves alone. `lacks` is the reason
    why this was not measured."""
    name, title = "beyond", "Questions that no checkpoint solves alone"
    if coverage is None:
        return Section(name, title, f"Not measured: {lacks}.", (), place=40)
    subject = next(method for method in coverage.tried if method.name == coverage.subject)
    tried = sorted(coverage.tried, key=lambda method: -method.share)
    best = next(method for method in tried if method is not subject)
    measured, table = coverage_blocks(asdict(coverage))
    return Section(
        name,
        title,
        f"{subject.name} solves {100 * subject.share:.0f} % of the questions that no checkpoint "
        f"solved; the same number of new answers of {best.name} solves {100 * best.share:.0f} %. "
        f"{_compared(coverage)} (Holm).",
        (
            measured,
            Chart(
                "solved",
                "intervals",
                "Share of the questions unsolved by all checkpoints that each method solves with "
                "the same number of new answers.",
                tuple(
                    DataPoint(m.name, m.share, "", m.low, m.high, sure=m is subject) for m in tried
                ),
                across="share of the unsolved questions solved, 95 % interval",
            ),
            table,
        ),
        "Which questions count as unsolved depends on how often the checkpoints were asked: with "
        "more answers they would solve more.",
        40,
        asdict(coverage),
    )


def _compared(coverage: UnsolvedCoverage) -> str:
    above: list[str] = []
    rest: list[str] = []
    for control in coverage.against:
        sure = significant(control.p_holm) and control.difference > 0
        (above if sure else rest).append(control.control)
    if not above:
        return "It is not significantly above any of the others"
    return f"It is significantly above {joined(above)}" + (
        f", but not above {joined(rest)}" if rest else ""
    )
