"""The switcher's decisions, and signs of failure, as sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.diagnosis import FailureSign, SwitcherStats
from taketurns.evaluation.report.blocks import Chart, DataPoint, Paragraph, Table
from taketurns.evaluation.report.formatting import joined, percent, ratio
from taketurns.evaluation.report.section import Section

SERIES = {
    "entropy of its probabilities": "entropy",
    "probability of the most probable candidate": "favourite",
    "most probable candidate drawn": "followed",
}


def render_switcher(stats: SwitcherStats) -> Section:
    """The switcher's certainty by position, and how often the speaker changes."""
    name, title = "switcher", "Decisions of the switcher"
    overall = stats.overall
    switching = (
        f"The speaker changes {ratio(stats.switches)} times per answer, at "
        f"{percent(stats.switch_rate)} % of the boundaries."
    )
    if overall is None:
        undecided = Paragraph("No speaker was selected by a switcher.")
        return Section(name, title, switching, (undecided,), place=60)
    return Section(
        name,
        title,
        f"The most probable candidate has probability {ratio(overall.favourite)} and is drawn in "
        f"{percent(overall.followed)} % of {overall.decisions} decisions. {switching}",
        (
            Paragraph(
                "Entropy is given as a share of its maximum: 0 if the switcher is certain, 1 if "
                "all candidates are equally probable. Only decisions of the switcher count, not "
                "those of rules."
            ),
            Chart(
                "positions",
                "lines",
                "Entropy of the switcher's probabilities, probability of the most probable "
                "candidate, and how often that candidate is drawn, by position in the answer.",
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
        "A certain switcher is not necessarily right: whether its probabilities fit the "
        "candidates' utilities can only be measured with new answers (taketurns experiment).",
        60,
        asdict(stats),
    )


def render_failure_signs(signs: Sequence[FailureSign]) -> Section:
    """The known signs of failure, each with its measured value."""
    return Section(
        "signs",
        "Signs of failure",
        _finding(signs),
        (
            Table(
                ("sign", "measure", "value", "threshold", "present", "tasks above it"),
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
        'A sign is present ("yes") if the whole interval is above the threshold, "perhaps" if only '
        "the value is. It can be right that one candidate writes nearly all of a task that it does "
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
        return f"No sign over all tasks together; in single tasks: {joined(local)}."
    return "No known sign of failure."
