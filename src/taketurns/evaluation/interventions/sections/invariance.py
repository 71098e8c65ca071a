"""The generalisation of the switcher to changed pools, as a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.interventions.invariance import KEPT, InvarianceResult
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Paragraph, Table
from taketurns.evaluation.report.section import Section
from taketurns.evaluation.statistics import ALPHA, Paired


def render_invariance(gain: Paired, changes: Sequence[InvarianceResult], questions: int) -> Section:
    """The switcher's gain in changed pools."""
    broken = "; ".join(
        f"{change.how} ({change.verdict})"
        for change in changes
        if change.verdict in ("does not carry over", "refuses")
    )
    return Section(
        "generalisation",
        "Generalisation of the switcher to changed pools",
        f"The switcher's gain over random switching is {gain.difference:+.3f} "
        f"({fmt.interval(gain.low, gain.high, '+.3f')})"
        + (
            f". It does not generalise to: {broken}."
            if broken
            else "; no changed pool shows a significant loss of most of it."
        ),
        (
            Paragraph(
                f"The same {questions} questions per task were asked again with a changed pool and "
                "the same switcher. The gain is the switcher's score minus that of random "
                "switching, measured in the same pool if it has other models."
            ),
            Table(
                ("change", "verdict", "gain in the changed pool", "score lost", "gain kept", "p"),
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
        caveat=f"The verdict is that a switcher does not carry over if less than {KEPT:.0%} of the "
        "gain is kept and, with the same models, the loss is significant or, with another model, "
        f"the gain is not (p below {ALPHA} after Holm over all changes, interval excluding 0). "
        'With fewer questions fewer differences are significant, and more verdicts are "loses '
        'some".',
        place=130,
        data={"gain": asdict(gain), "changes": [asdict(change) for change in changes]},
    )


def _paired(paired: Paired | None) -> str:
    return (
        fmt.DASH if paired is None else fmt.difference(paired.difference, paired.low, paired.high)
    )
