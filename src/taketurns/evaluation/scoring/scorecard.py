"""Scores of existing answers: the score of each, and their summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taketurns.evaluation.scoring.answers import QuestionAnswers
from taketurns.evaluation.statistics import Share, share
from taketurns.tasks.base import GroupTask, MeasuredTask, Split, Task, score_many
from taketurns.tasks.scorers.base import sound
from taketurns.types import Score

BATCH = 64  # answers between two updates of the progress


@dataclass(frozen=True, slots=True)
class Scored:
    """A question's answers and a score for each."""

    answers: QuestionAnswers
    scores: tuple[Score, ...]

    def to_json(self) -> dict[str, Any]:
        """A record of the per-answer file; several answers give a list of scores."""
        scores = [
            {key: value for key, value in asdict(score).items() if value is not None}
            for score in self.scores
        ]
        several = isinstance(self.answers.texts, tuple) and len(scores) > 1
        return {
            "id": self.answers.query.id,
            "reference": self.answers.query.reference,
            **({"scores": scores} if several else scores[0]),
        }


@dataclass(frozen=True)
class Scorecard:
    """The summary of the answers to a split of a task.

    `parse_failures` counts answers in which no answer of the right kind was found; they count as
    wrong. `unscored` answers have no score and are left out of the mean.
    """

    task: str
    split: Split
    scorer: str
    scored: tuple[Scored, ...]
    measures: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> list[Score]:
        return [score for question in self.scored for score in question.scores]

    @property
    def parse_failures(self) -> int:
        return sum(not score.parsed for score in self.scores)

    @property
    def unscored(self) -> int:
        return sum(score.value is None for score in self.scores)

    @property
    def mean(self) -> Share | None:
        """The mean with its 95 % interval; None if no answer has a score."""
        values = [
            tuple(score.value for score in question.scores if score.value is not None)
            for question in self.scored
        ]
        return share([scores for scores in values if scores]) if any(values) else None

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values, for scripts."""
        mean, answers = self.mean, len(self.scores)
        return {
            "task": self.task,
            "split": self.split,
            "scorer": self.scorer,
            "n": len(self.scored),
            "answers": answers,
            "mean": None if mean is None else round(mean.mean, 6),
            "interval": None if mean is None else [round(mean.low, 6), round(mean.high, 6)],
            "parse_failures": self.parse_failures,
            "parse_failure_rate": round(self.parse_failures / answers, 6) if answers else None,
            "unscored": self.unscored,
            "measures": {name: round(value, 6) for name, value in self.measures.items()},
            "notes": list(self.notes),
        }


def score_answers(
    task: Task,
    split: Split,
    answers: Sequence[QuestionAnswers],
    on_done: Callable[[], None] = lambda: None,
) -> Scorecard:
    """Score answers; `on_done` is called for each question. An answer that failed to be written has
    no score."""
    scored: list[Scored] = []
    for start in range(0, len(answers), BATCH):
        part = answers[start : start + BATCH]
        scored += _judged(task, part)
        for _ in part:
            on_done()
    scores = [score for question in scored for score in question.scores]
    scorer = getattr(task, "scorer", None)
    return Scorecard(
        task=task.name,
        split=split,
        scorer=task.name if scorer is None else scorer.name,
        scored=tuple(scored),
        measures=task.measures(scores) if isinstance(task, MeasuredTask) else {},
        notes=getattr(task, "notes", ()),
    )


def _judged(task: Task, answers: Sequence[QuestionAnswers]) -> list[Scored]:
    if isinstance(task, GroupTask):
        return [
            Scored(
                question,
                _failed(question)
                or tuple(map(sound, task.score_group(question.query, question.texts))),
            )
            for question in answers
        ]
    whole = [question for question in answers if question.failed is None]
    scores = iter(score_many(task, [(question.query, question.texts[0]) for question in whole]))
    return [Scored(question, _failed(question) or (next(scores),)) for question in answers]


def _failed(answers: QuestionAnswers) -> tuple[Score, ...]:
    if answers.failed is None:
        return ()
    return (Score(None, None, f"the answer failed: {answers.failed}"),)
