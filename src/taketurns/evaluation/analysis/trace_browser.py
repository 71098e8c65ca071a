"""The trace browser: a part of the page that contains traces as data and shows a selection.

Traces are embedded as JSON that cannot close its script element, and the script inserts their
contents as text, so a model's output is never interpreted as HTML.
"""

from __future__ import annotations

from random import Random
from typing import Any

from taketurns.evaluation.analysis.answers import AnalysisInput, ScoredAnswer
from taketurns.evaluation.report.theme import SPEAKERS
from taketurns.evaluation.unsolved_coverage import SOLVED


def browser_context(inputs: AnalysisInput, most: int) -> dict[str, Any]:
    """The variables of the template, with at most `most` traces. If there are more, right answers
    to questions that no checkpoint solved alone come first, then the same number from each task."""
    subject = inputs.subject
    chosen = sample(inputs, most)
    scope = f"All {len(chosen)} answers of {subject.method}."
    if len(chosen) < len(subject.answers):
        scope = (
            f"{len(chosen)} of {len(subject.answers)} answers of {subject.method}: first right "
            "answers to questions that no checkpoint solved alone, then a random sample with the "
            "same number from each task."
        )
    results = [("", "all"), ("right", "right"), ("wrong", "wrong")]
    if inputs.solved_alone is not None:
        results.append(("only", "right where no checkpoint alone was"))
    return {
        "scope": scope,
        "pool": subject.pool,
        "speaker_styles": SPEAKERS,
        "tasks": [("", "all"), *((task, task) for task in subject.tasks)],
        "results": results,
        "speakers": [("", "any"), *((str(n), name) for n, name in enumerate(subject.pool))],
        "record": {
            "pool": subject.pool,
            "marks": [style.mark for style in SPEAKERS],
            "solved": SOLVED,
            "traces": [_trace(answer, _team_only(inputs, answer)) for answer in chosen],
        },
    }


def sample(inputs: AnalysisInput, most: int) -> list[ScoredAnswer]:
    """The answers on the page, in the run's order."""
    answers = inputs.subject.answers
    if len(answers) <= most:
        return list(answers)
    numbers = list(range(len(answers)))
    Random(0).shuffle(numbers)
    by_task: dict[str, int] = {}
    place = {}
    for number in numbers:  # the first of each task, then the second of each, and so on
        task = answers[number].task
        by_task[task] = by_task.get(task, 0) + 1
        place[number] = (not _team_only(inputs, answers[number]), by_task[task])
    return [answers[number] for number in sorted(sorted(place, key=place.__getitem__)[:most])]


def _team_only(inputs: AnalysisInput, answer: ScoredAnswer) -> bool:
    return (
        answer.right
        and inputs.solved_alone is not None
        and answer.question not in inputs.solved_alone
    )


def _trace(answer: ScoredAnswer, only: bool) -> dict[str, Any]:
    reference = answer.query.reference
    return {
        "id": answer.query.id,
        "task": answer.task,
        "seed": answer.seed,
        "score": answer.score,
        "only": only,
        "asked": answer.query.conversation[-1].content,
        "reference": "" if reference is None else str(reference),
        "patches": [
            [
                patch.speaker,
                patch.text,
                len(patch.token_ids),
                None
                if patch.probabilities is None or len(patch.probabilities) < 2
                else [round(p, 2) for p in patch.probabilities],
            ]
            for patch in answer.patches
        ],
    }
