"""Whether the switcher's gain carries over to changed pools, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.interventions.invariance import KEPT, InvarianceResult
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Paragraph, Table
from taketurns.evaluation.report.section import Section
from taketurns.evaluation.statistics import ALPHA, Paired


def render_invariance(gain: Paired, changes: Sequence[InvarianceResult], questions: int) -> Section:
    """What became of the switcher's gain in changed pools."""
    broken = "; ".join(
        f"{change.how} ({change.verdict})"
        for change in changes
        if change.verdict in ("does not carry over", "refuses")
    )
    return Section(
        "generalisation",
        "Does the switcher carry over to another pool?",
        f"The switcher's gain over random switching is {gain.difference:+.3f} "
        f"({fmt.interval(gain.low, gain.high, '+.3f')})"
        + (
            f". No generalisation: {broken}."
            if broken
            else "; it carries over to every changed pool that was tried, as far as this can say."
        ),
        (
            Paragraph(
                f"The same {questions} questions a task, asked again with the pool changed and the "
                "switcher untouched. Its gain is its score less random switching's: of the same "
                "pool, where other models are in it."
            ),
            Table(
                ("change", "verdict", "gain there", "score lost", "gain kept", "p"),
                [
                    [
                        change.how,
                        change.verdict,
                        _paired(change.there),
                        _paired(change.lost),
                        fmt.DASH if change.kept is None else f"{change.kept:.0%}",
                        fmt.p_value(change.p),
                    ]
                    for change in changes
                ],
            ),
            Paragraph(" ".join(f"{change.how}: {change.sentence}" for change in changes)),
        ),
        caveat=f"It does not carry over where less than {KEPT:.0%} of the gain is kept and, with "
        f"the same models, the loss is sure, or, with another model, the gain there is not (p "
        f"below {ALPHA} after Holm over all changes, interval excluding 0). With fewer questions "
        "less can be sure, and more is said to be so only in part.",
        place=130,
        data={"gain": asdict(gain), "changes": [asdict(change) for change in changes]},
    )


def _paired(paired: Paired | None) -> str:
    return (
        fmt.DASH if paired is None else fmt.difference(paired.difference, paired.low, paired.high)
    )
