"""How does the switcher decide, and does anything look broken?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from taketurns.evaluation.analysis.clusters import Ratio
from taketurns.evaluation.analysis.diagnosis import At, Sign, Switcher
from taketurns.evaluation.analysis.numbers import listed, percent, plain
from taketurns.evaluation.analysis.section import Chart, Mark, Section
from taketurns.evaluation.report.blocks import Paragraph, Table


def of_switcher(found: Switcher) -> Section:
    """How does the switcher decide?"""
    name, title = "switcher", "How does the switcher decide?"
    every = found.overall
    switching = (
        f"The speaker changes {plain(found.switches)} times an answer, at "
        f"{percent(found.switch_rate)} % of the boundaries."
    )
    if every is None:
        return Section(
            name, title, switching, (Paragraph("Nobody was asked who is next."),), "", 60
        )
    series: tuple[tuple[str, Callable[[At], Ratio]], ...] = (
        ("entropy of its probabilities", lambda at: at.entropy),
        ("probability of its favourite", lambda at: at.favourite),
        ("favourite drawn", lambda at: at.followed),
    )
    return Section(
        name,
        title,
        f"Its favourite has probability {plain(every.favourite)} and speaks in "
        f"{percent(every.followed)} % of {every.decisions} decisions. {switching}",
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
                    Mark(at.position, of(at).value, what, of(at).low, of(at).high, float(number))
                    for what, of in series
                    for number, at in enumerate(found.by_position, start=1)
                ),
                across="patch of the answer",
                up="share",
            ),
            Table(
                ("patch", "decisions", *(what for what, _ in series)),
                [
                    [at.position, str(at.decisions), *(plain(of(at)) for _, of in series)]
                    for at in (*found.by_position, every)
                ],
                frozenset({len(found.by_position)}),
            ),
        ),
        "A sure switcher need not be right: whether its probabilities fit what the speakers would "
        "have brought takes answers that were not written.",
        60,
        asdict(found),
    )


def of_signs(found: Sequence[Sign]) -> Section:
    """Does anything look broken?"""
    there = [one for one in found if one.verdict != "no"]
    local = [one for one in found if one.verdict == "no" and one.tasks]
    finding = "No known sign of a team that does not work."
    if there:
        finding = " ".join(
            f"{one.name.capitalize() if one.name.islower() else one.name}"
            f"{' (perhaps)' if one.verdict == 'perhaps' else ''}: {one.means}."
            for one in there
        )
    elif local:
        each = [f"{one.name} in {listed(one.tasks)}" for one in local]
        finding = f"Not over all tasks; but {listed(each)}."
    return Section(
        "signs",
        "Does anything look broken?",
        finding,
        (
            Table(
                ("sign", "what is measured", "value", "from", "there", "tasks beyond it"),
                [
                    [
                        one.name, one.measure, plain(one.value), f"{one.threshold:.2f}",
                        one.verdict, ", ".join(one.tasks) or "none",
                    ]
                    for one in found
                ],
            ),
            *(Paragraph(f"{one.means}.", f"{one.name}:") for one in found),
        ),
        'A sign is there ("yes") where the whole interval lies beyond the threshold, "perhaps" '
        "where the value does. One candidate may rightly write nearly all of a task that it does "
        "best.",
        70,
        {"signs": [asdict(one) for one in found]},
    )  # fmt: skip
