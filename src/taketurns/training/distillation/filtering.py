"""Which of the team's answers the student is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from taketurns.errors import DataError
from taketurns.tasks.base import Task
from taketurns.tasks.scorers.reward import Reward
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.distillation.settings import FilterConfig


@dataclass(frozen=True, slots=True)
class FilteredAnswers:
    """The answers to train on, by task and question, and counts for the metrics."""

    answers: tuple[TeamAnswer, ...]
    report: Mapping[str, Any]


def filter_answers(
    answers: Iterable[TeamAnswer], tasks: Sequence[Task], config: FilterConfig
) -> FilteredAnswers:
    """The good answers, without duplicates of a question. Raises DataError if there are none."""
    rewarded = {task.name for task in tasks if isinstance(getattr(task, "scorer", None), Reward)}
    scored = sorted(answers, key=lambda answer: (answer.task, answer.trace.query.id, answer.id))
    chosen: list[TeamAnswer] = []
    for (task, _), group in groupby(scored, key=lambda a: (a.task, a.trace.query.id)):
        same = list(group)
        by_best = config.keep == "best" or (config.keep == "auto" and task in rewarded)
        good = _best(same) if by_best else _enough(same, config.min_score)
        first = {answer.trace.text: answer for answer in reversed(good)}
        chosen += [answer for answer in good if first[answer.trace.text] is answer]
    if not chosen:
        raise DataError(_none(scored, rewarded, config))
    sampled, learned = (Counter(a.task for a in part) for part in (scored, chosen))
    return FilteredAnswers(
        tuple(chosen),
        {
            "answers": len(scored),
            "unscored": sum(answer.utility is None for answer in scored),
            "kept": len(chosen),
            "questions": len({(a.task, a.trace.query.id) for a in chosen}),
            "mean_score": round(fmean(a.utility or 0.0 for a in scored), 4),
            "by_task": {
                task: {"answers": sampled[task], "kept": learned[task]} for task in sorted(sampled)
            },
        },
    )


def _enough(answers: Sequence[TeamAnswer], least: float) -> list[TeamAnswer]:
    return [answer for answer in answers if answer.utility is not None and answer.utility >= least]


def _best(answers: Sequence[TeamAnswer]) -> list[TeamAnswer]:
    """The best answers, if scores differ: a reward shows which is better, not which is good."""
    utilities = [answer.utility for answer in answers if answer.utility is not None]
    if len(set(utilities)) < 2:
        return []
    return [answer for answer in answers if answer.utility == max(utilities)]


def _none(answers: Sequence[TeamAnswer], rewarded: set[str], config: FilterConfig) -> str:
    if not answers:
        return (
            "no answers to learn from: the team has written none to the train questions; name "
            "tasks that have some with --task"
        )
    if all(answer.utility is None for answer in answers):
        return f"none of {len(answers)} answers could be scored; the first one: {answers[0].why}"
    if config.keep == "best" or (config.keep == "auto" and rewarded):
        return (
            f"none of {len(answers)} answers is kept: no question has answers with different "
            "scores; sample more with --answers"
        )
    best = max(answer.utility for answer in answers if answer.utility is not None)
    return (
        f"none of {len(answers)} answers is kept: the best score is {best:g} and --min-score is "
        f"{config.min_score:g}; lower it, or sample more with --answers"
    )
