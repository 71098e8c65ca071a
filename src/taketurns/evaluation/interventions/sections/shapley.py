"""The contribution of each candidate to the pool, as a section."""

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
    """The contribution of each candidate, for each kind of switcher of a coalition."""
    parts: list[Block] = [
        Paragraph(
            f"Every coalition of candidates answered the same {questions} questions per task. "
            "Renormalised: the team's switcher, with its probabilities normalised over the "
            "coalition. Retrained: a head trained on the same labels for the coalition alone. The "
            "Shapley value of a candidate is what it adds on average over all orders of forming "
            "the pool; the values sum to the pool's score."
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
        finding += f" Without {fmt.joined(idle, 'or')} it loses nothing significant."
    return Section(
        "helpfulness",
        "Contribution of each candidate",
        finding,
        tuple(parts),
        caveat="Retrained heads learn from labels whose prefixes and rollouts contain patches of "
        "all candidates, and before the first patch they may read the states of an absent "
        "candidate. A correlation takes the score alone and the contribution from different "
        "questions, and its interval from resampled tasks, of which there are few.",
        place=110,
        data={kind: _study_json(names, study) for kind, study in studies.items()},
    )


def _study_parts(names: Sequence[str], kind: str, study: ContributionStudy) -> list[Block]:
    on_tasks = [(task, candidate) for task, of_task in study.tasks.items() for candidate in of_task]
    correlations = [["loss without it", *_correlation(study.left_out)]]
    if study.shapley is not None:
        correlations.append(["added to a non-empty coalition", *_correlation(study.shapley)])
    return [
        Heading(f"Switcher {kind}", 3),
        Table(
            ("candidate", "alone", "pool minus pool without it", "Shapley value"),
            [_cells(names, candidate) for candidate in study.whole],
        ),
        Chart(
            f"{kind}-candidates",
            "intervals",
            f"Loss of the pool without each candidate on each task, switcher {kind}; 95 % "
            "intervals, filled where they exclude 0.",
            tuple(_left_out(names, task, candidate) for task, candidate in on_tasks),
            across="score of the pool minus that without the candidate",
            reference=0.0,
        ),
        Chart(
            f"{kind}-accuracy",
            "scatter",
            "A candidate's score alone on a task, and the loss of the pool without it there.",
            tuple(
                _left_out(names, task, candidate, candidate.alone.value)
                for task, candidate in on_tasks
            ),
            across="score alone",
            up="loss without it",
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
