"""How does the switcher decide, and does anything look broken?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.diagnosis import FailureSign, SwitcherStats
from taketurns.evaluation.report.blocks import Chart, DataPoint, Paragraph, Table
from taketurns.evaluation.report.formatting import joined, percent, ratio
from taketurns.evaluation.report.section import Section

SERIES = {
    "entropy of its probabilities": "entropy",
    "probability of its favourite": "favourite",
    "favourite drawn": "followed",
}


def render_switcher(stats: SwitcherStats) -> Section:
    """How sure the switcher is by position, and how often the speaker changes."""
    name, title = "switcher", "How does the switcher decide?"
    overall = stats.overall
    switching = (
        f"The speaker changes {ratio(stats.switches)} times an answer, at "
        f"{percent(stats.switch_rate)} % of the boundaries."
    )
    if overall is None:
        nobody = Paragraph("Nobody was asked who is next.")
        return Section(name, title, switching, (nobody,), place=60)
    return Section(
        name,
        title,
        f"Its favourite has probability {ratio(overall.favourite)} and speaks in "
        f"{percent(overall.followed)} % of {overall.decisions} decisions. {switching}",
        (
            Paragraph(
                "Entropy is a share of the most that it can be: 0 where the switcher is sure, 1 "
                "where all are as likely. Only decisions that it made are counted."
            ),
            Chart(
                "positions",
                "lines",
                "Entropy of the switcher's probabilities, probability of its favourite, and how "
                "often the favourite speaks, by position in the answer.",
                tuple(
                    DataPoint.of(at.position, getattr(at, field), series, float(number))
                    for series, field in SERIES.items()
                    for number, at in enumerate(stats.by_position, start=1)
                ),
                across="patch of the answer",
                up="share",
            ),
            Table(
                ("patch", "decisions", *SERIES),
                [
                    [
                        at.position,
                        str(at.decisions),
                        *(ratio(getattr(at, field)) for field in SERIES.values()),
                    ]
                    for at in (*stats.by_position, overall)
                ],
                frozenset({len(stats.by_position)}),
            ),
        ),
        "A sure switcher need not be right: whether its probabilities fit what the speakers would "
        "have brought takes answers that were not written.",
        60,
        asdict(stats),
    )


def render_failure_signs(signs: Sequence[FailureSign]) -> Section:
    """The known ways to fail, each with what was measured."""
    return Section(
        "signs",
        "Does anything look broken?",
        _finding(signs),
        (
            Table(
                ("sign", "what is measured", "value", "from", "there", "tasks beyond it"),
                [
                    [
                        sign.name, sign.measure, ratio(sign.value), f"{sign.threshold:.2f}",
                        sign.verdict, ", ".join(sign.tasks) or "none",
                    ]
                    for sign in signs
                ],
            ),
            *(Paragraph(f"{sign.means}.", f"{sign.name}:") for sign in signs),
        ),
        'A sign is there ("yes") where the whole interval lies beyond the threshold, "perhaps" '
        "where the value does. One candidate may rightly write nearly all of a task that it does "
        "best.",
        70,
        {"signs": [asdict(sign) for sign in signs]},
    )  # fmt: skip


def _finding(signs: Sequence[FailureSign]) -> str:
    present = [
        f"{sign.name.capitalize() if sign.name.islower() else sign.name}"
        f"{' (perhaps)' if sign.verdict == 'perhaps' else ''}: {sign.means}."
        for sign in signs
        if sign.verdict != "no"
    ]
    if present:
        return " ".join(present)
    local = [f"{sign.name} in {joined(sign.tasks)}" for sign in signs if sign.tasks]
    if local:
        return f"Not over all tasks; but {joined(local)}."
    return "No known sign of a team that does not work."
