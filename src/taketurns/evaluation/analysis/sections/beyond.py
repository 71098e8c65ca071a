"""Is anything solved that no checkpoint solves alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.numbers import counted, listed, p_value, signed, sure
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.report.blocks import Paragraph, Table
from taketurns.evaluation.unsolved_coverage import UnsolvedCoverage


def of_beyond(found: UnsolvedCoverage | None, lacks: str = "") -> Section:
    """Is anything solved that no checkpoint solves alone? `lacks` says why that is not known."""
    name, title = "beyond", "Is anything solved that no checkpoint solves alone?"
    if found is None:
        return Section(name, title, f"Not known: {lacks}.", (), "", 40)
    mine = next(one for one in found.tried if one.name == found.subject)
    best = max((one for one in found.tried if one is not mine), key=lambda one: one.share)
    above = [one for one in found.against if sure(one.p_holm) and one.difference > 0]
    verdict = (
        f"more than {listed([one.control for one in above])}"
        if above
        else "no more than chance explains"
    )
    if 0 < len(above) < len(found.against):
        verdict += f", not surely more than {_rest(found, above)}"
    others = {one.control: one for one in found.against}
    rows = []
    for one in sorted(found.tried, key=lambda one: -one.share):
        against = others.get(one.name)
        rows.append(
            [
                one.name,
                f"{one.solved:.1f}".removesuffix(".0"),
                f"{one.share:.3f} ({one.low:.3f}\N{EN DASH}{one.high:.3f})",
                *(
                    (signed(against.difference, against.low, against.high), p_value(against.p),
                     p_value(against.p_holm))
                    if against
                    else ("", "", "")
                ),
            ]
        )  # fmt: skip
    return Section(
        name,
        title,
        f"{found.subject} solves {100 * mine.share:.0f} % of the questions that no checkpoint "
        f"solved; as many new answers of {best.name} solve {100 * best.share:.0f} %. That is "
        f"{verdict} (Holm).",
        (
            Paragraph(
                f"{counted(found.defining, 'answer')} of each checkpoint tell which questions "
                f"none solves ({found.left:.1f} of {found.questions} on average over "
                f"{counted(found.rounds, 'way')} to divide the seeds); then everybody has "
                f"{counted(found.tries, 'new answer')} a question. What a checkpoint solves now is "
                "chance; whatever tries more widely solves more by chance, as random switching "
                "does."
            ),
            Chart(
                "solved",
                "intervals",
                "Share of the questions left by all checkpoints that each solves with as many new "
                "answers.",
                tuple(
                    Mark(one.name, one.share, "", one.low, one.high, sure=one is mine)
                    for one in sorted(found.tried, key=lambda one: -one.share)
                ),
                across="solved of the questions left, 95 % interval",
            ),
            Table(
                ("who", "solved", "share", f"{found.subject} less it", "p", "Holm"),
                rows,
                frozenset(n for n, row in enumerate(rows) if row[0] == found.subject),
            ),
        ),
        "Which questions count as left depends on how often the checkpoints were asked: with more "
        "answers they would solve more.",
        40,
        asdict(found),
    )


def _rest(found: UnsolvedCoverage, above: Sequence[object]) -> str:
    return listed([one.control for one in found.against if one not in above])
