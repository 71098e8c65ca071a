"""What each candidate adds to the pool, as a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taketurns.evaluation.interventions.shapley import (
    Contribution,
    ContributionCorrelation,
    ContributionStudy,
)
from taketurns.evaluation.report import formatting as fmt
from taketurns.evaluation.report.blocks import Block, Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section


def render_shapley(
    names: Sequence[str], studies: Mapping[str, ContributionStudy], questions: int
) -> Section:
    """What each candidate adds, by each way to make do without it."""
    parts: list[Block] = [
        Paragraph(
            f"Every part of the pool answered the same {questions} questions a task. Renormalised: "
            "the switcher's probabilities over those who are there. Retrained: a head that learned "
            "from the same labels who of them is best. Shapley's values are what a candidate adds "
            "on average over all orders of putting the pool together; they sum to the pool's score."
        )
    ]
    for kind, study in studies.items():
        parts += _study_parts(names, kind, study)
    whole = next(iter(studies.values())).whole
    most = max(whole, key=lambda candidate: candidate.left_out.value)
    idle = [names[c.candidate] for c in whole if not fmt.excludes_zero(c.left_out)]
    lost = fmt.estimated(most.left_out, "+.3f")
    finding = f"The pool loses most without {names[most.candidate]} ({lost})."
    if idle:
        finding += f" Without {fmt.joined(idle, 'or')} it loses nothing that is sure."
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
        data={kind: _study_json(names, study) for kind, study in studies.items()},
    )


def _study_parts(names: Sequence[str], kind: str, study: ContributionStudy) -> list[Block]:
    on_tasks = [(task, candidate) for task, of_task in study.tasks.items() for candidate in of_task]
    correlations = [["lost without it", *_correlation(study.left_out)]]
    if study.shapley is not None:
        correlations.append(["added to a part that is not empty", *_correlation(study.shapley)])
    return [
        Heading(f"Switcher {kind}", 3),
        Table(
            ("candidate", "alone", "pool less pool without it", "Shapley value"),
            [_cells(names, candidate) for candidate in study.whole],
        ),
        Chart(
            f"{kind}-candidates",
            "intervals",
            f"What the pool loses without each candidate on each task, switcher {kind}; 95 % "
            "intervals, filled where they exclude 0.",
            tuple(_left_out(names, task, candidate) for task, candidate in on_tasks),
            across="score of the pool less that without the candidate",
            reference=0.0,
        ),
        Chart(
            f"{kind}-accuracy",
            "scatter",
            "A candidate's score alone on a task, and what the pool loses there without it.",
            tuple(
                _left_out(names, task, candidate, candidate.alone.value)
                for task, candidate in on_tasks
            ),
            across="score alone",
            up="lost without it",
            reference=0.0,
        ),
        Table(("correlation with the score alone", "over pairs", "within tasks"), correlations),
    ]


def _left_out(
    names: Sequence[str], task: str, candidate: Contribution, x: float | None = None
) -> DataPoint:
    lost = candidate.left_out
    return DataPoint.of(task, lost, names[candidate.candidate], x, sure=fmt.excludes_zero(lost))


def _cells(names: Sequence[str], candidate: Contribution) -> list[str]:
    return [
        names[candidate.candidate],
        fmt.estimated(candidate.alone),
        fmt.estimated(candidate.left_out, "+.3f"),
        fmt.DASH if candidate.shapley is None else fmt.estimated(candidate.shapley, "+.3f"),
    ]


def _correlation(correlation: ContributionCorrelation) -> list[str]:
    both = (correlation.pairs, correlation.within)
    return [fmt.DASH if r is None else fmt.estimated(r, "+.2f") for r in both]


def _study_json(names: Sequence[str], study: ContributionStudy) -> dict[str, Any]:
    def by_name(candidates: Sequence[Contribution]) -> dict[str, Any]:
        return {names[candidate.candidate]: asdict(candidate) for candidate in candidates}

    return {
        "whole": by_name(study.whole),
        "tasks": {task: by_name(candidates) for task, candidates in study.tasks.items()},
        "correlation": {
            "left_out": asdict(study.left_out),
            "shapley": None if study.shapley is None else asdict(study.shapley),
        },
    }
