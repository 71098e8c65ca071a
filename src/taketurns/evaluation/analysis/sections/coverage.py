"""Is anything solved that no checkpoint solves alone?"""

from __future__ import annotations

from dataclasses import asdict

from taketurns.evaluation.report.blocks import Chart, DataPoint
from taketurns.evaluation.report.formatting import joined, significant
from taketurns.evaluation.report.section import Section
from taketurns.evaluation.report.sections.coverage import coverage_blocks
from taketurns.evaluation.unsolved_coverage import UnsolvedCoverage


def render_coverage(coverage: UnsolvedCoverage | None, lacks: str = "") -> Section:
    """Is anything solved that no checkpoint solves alone? `lacks` says why that is not known."""
    name, title = "beyond", "Is anything solved that no checkpoint solves alone?"
    if coverage is None:
        return Section(name, title, f"Not known: {lacks}.", (), place=40)
    subject = next(method for method in coverage.tried if method.name == coverage.subject)
    tried = sorted(coverage.tried, key=lambda method: -method.share)
    best = next(method for method in tried if method is not subject)
    measured, table = coverage_blocks(asdict(coverage))
    return Section(
        name,
        title,
        f"{subject.name} solves {100 * subject.share:.0f} % of the questions that no checkpoint "
        f"solved; as many new answers of {best.name} solve {100 * best.share:.0f} %. That is "
        f"{_compared(coverage)} (Holm).",
        (
            measured,
            Chart(
                "solved",
                "intervals",
                "Share of the questions left by all checkpoints that each solves with as many new "
                "answers.",
                tuple(
                    DataPoint(m.name, m.share, "", m.low, m.high, sure=m is subject) for m in tried
                ),
                across="solved of the questions left, 95 % interval",
            ),
            table,
        ),
        "Which questions count as left depends on how often the checkpoints were asked: with more "
        "answers they would solve more.",
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
        return "no more than chance explains"
    return f"more than {joined(above)}" + (f", not surely more than {joined(rest)}" if rest else "")
