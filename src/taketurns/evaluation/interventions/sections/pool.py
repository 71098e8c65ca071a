"""What candidates add, and whether the switcher carries over, as sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taketurns.evaluation.analysis.numbers import NONE, listed, p_value, signed
from taketurns.evaluation.analysis.section import Chart, Mark, Part, Section
from taketurns.evaluation.interventions.invariance import KEPT, Signature
from taketurns.evaluation.interventions.sections.words import excludes_zero, figure, interval
from taketurns.evaluation.interventions.shapley import Correlation, Helpfulness, Study
from taketurns.evaluation.report.blocks import Heading, Paragraph, Table
from taketurns.evaluation.statistics import ALPHA, Paired


def of_helpfulness(names: Sequence[str], studies: Mapping[str, Study], questions: int) -> Section:
    """What each candidate adds, by each way to make do without it."""
    parts: list[Part] = [
        Paragraph(
            f"Every part of the pool answered the same {questions} questions a task. Renormalised: "
            "the switcher's probabilities over those who are there. Retrained: a head that learned "
            "from the same labels who of them is best. Shapley's values are what a candidate adds "
            "on average over all orders of putting the pool together; they sum to the pool's score."
        )
    ]
    for kind, one in studies.items():
        parts += [
            Heading(f"Switcher {kind}", 3),
            Table(
                ("candidate", "alone", "pool less pool without it", "Shapley value"),
                [_candidate(names, helps) for helps in one.whole],
            ),
            Chart(
                f"{kind}-candidates",
                "intervals",
                f"What the pool loses without each candidate on each task, switcher {kind}; 95 % "
                "intervals, filled where they exclude 0.",
                tuple(
                    Mark(
                        task, helps.left_out.value, names[helps.candidate], helps.left_out.low,
                        helps.left_out.high, sure=excludes_zero(helps.left_out),
                    )
                    for task, own in one.tasks.items()
                    for helps in own
                ),
                across="score of the pool less that without the candidate",
                reference=0.0,
            ),
            Chart(
                f"{kind}-accuracy",
                "scatter",
                "A candidate's score alone on a task, and what the pool loses there without it.",
                tuple(
                    Mark(
                        task, helps.left_out.value, names[helps.candidate], helps.left_out.low,
                        helps.left_out.high, helps.alone.value,
                        sure=excludes_zero(helps.left_out),
                    )
                    for task, own in one.tasks.items()
                    for helps in own
                ),
                across="score alone",
                up="lost without it",
                reference=0.0,
            ),
            Table(
                ("correlation with the score alone", "over pairs", "within tasks"),
                [
                    ["lost without it", *_correlation(one.left_out)],
                    *(
                        [["added to a part that is not empty", *_correlation(one.shapley)]]
                        if one.shapley is not None
                        else []
                    ),
                ],
            ),
        ]  # fmt: skip
    helps = next(iter(studies.values())).whole
    most = max(helps, key=lambda one: one.left_out.value)
    idle = [names[one.candidate] for one in helps if not excludes_zero(one.left_out)]
    finding = (
        f"The pool loses most without {names[most.candidate]} ({figure(most.left_out, '+.3f')})."
    )
    if idle:
        finding += f" Without {listed(idle, 'or')} it loses nothing that is sure."
    return Section(
        "helpfulness",
        "What each candidate adds",
        finding,
        tuple(parts),
        caveat="Retrained heads learn from labels whose prefixes and continuations all candidates "
        "wrote, and may read the states of a candidate that is left out before anybody has spoken. "
        "A correlation takes the score alone from other questions than what is added, and its "
        "interval from resampled tasks, which are few.",
        place=110,
        data={kind: _study(names, one) for kind, one in studies.items()},
    )


def of_generalisation(gain: Paired, found: Sequence[Signature], questions: int) -> Section:
    """What became of the switcher's gain in changed pools."""
    rows = [
        [
            one.how,
            one.verdict,
            NONE if one.there is None else _paired(one.there),
            NONE if one.lost is None else _paired(one.lost),
            NONE if one.kept is None else f"{one.kept:.0%}",
            p_value(one.p),
        ]
        for one in found
    ]
    broken = [one for one in found if one.verdict in ("does not carry over", "refuses")]
    finding = (
        f"The switcher's gain over random switching is {gain.difference:+.3f} "
        f"({interval(gain.low, gain.high, '+.3f')})"
    )
    finding += (
        "; it carries over to every changed pool that was tried, as far as this can say."
        if not broken
        else ". No generalisation: "
        + "; ".join(f"{one.how} ({one.verdict})" for one in broken)
        + "."
    )
    return Section(
        "generalisation",
        "Does the switcher carry over to another pool?",
        finding,
        (
            Paragraph(
                f"The same {questions} questions a task, asked again with the pool changed and the "
                "switcher untouched. Its gain is its score less random switching's: of the same "
                "pool, where other models are in it."
            ),
            Table(("change", "verdict", "gain there", "score lost", "gain kept", "p"), rows),
            Paragraph(" ".join(f"{one.how}: {one.sentence}" for one in found)),
        ),
        caveat=f"It does not carry over where less than {KEPT:.0%} of the gain is kept and, with "
        f"the same models, the loss is sure, or, with another model, the gain there is not (p "
        f"below {ALPHA} after Holm over all changes, interval excluding 0). With fewer questions "
        "less can be sure, and more is said to be so only in part.",
        place=130,
        data={"gain": asdict(gain), "changes": [asdict(one) for one in found]},
    )


def _candidate(names: Sequence[str], one: Helpfulness) -> list[str]:
    return [
        names[one.candidate],
        figure(one.alone),
        figure(one.left_out, "+.3f"),
        NONE if one.shapley is None else figure(one.shapley, "+.3f"),
    ]


def _correlation(one: Correlation) -> list[str]:
    return [NONE if f is None else figure(f, "+.2f") for f in (one.pairs, one.within)]


def _paired(one: Paired) -> str:
    return signed(one.difference, one.low, one.high)


def _study(names: Sequence[str], one: Study) -> dict[str, Any]:
    def named(own: Sequence[Helpfulness]) -> dict[str, Any]:
        return {names[helps.candidate]: asdict(helps) for helps in own}

    return {
        "whole": named(one.whole),
        "tasks": {task: named(own) for task, own in one.tasks.items()},
        "correlation": {
            "left_out": asdict(one.left_out),
            "shapley": None if one.shapley is None else asdict(one.shapley),
        },
    }
