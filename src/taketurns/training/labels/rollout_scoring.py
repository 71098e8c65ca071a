"""The utility of a rollout: the score of its answer by the task's scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taketurns.errors import DataError
from taketurns.runs.runner import describe_error
from taketurns.tasks.base import BatchTask, GroupTask, Task
from taketurns.types import Query, Score


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """The whole answer of a rollout of `speaker`'s branch (None if it could not be written), and
    its utility, or the reason `why` it has none. `tokens` is the number of tokens written for
    it."""

    speaker: int
    text: str | None
    tokens: int = 0
    utility: float | None = None
    why: str | None = None


def score_rollouts(
    task: Task, query: Query, results: Sequence[RolloutResult]
) -> list[RolloutResult]:
    """Score the results that have no score yet; a `GroupTask`, which compares answers, scores all
    of them again.

    If the scorer raises, or gives a number outside 0..1, the result has no utility. Raises
    DataError if a group has another number of scores than of answers.
    """
    if isinstance(task, GroupTask):
        return _score_group(task, query, results)
    if isinstance(task, BatchTask):
        return _score_batch(task, query, results)
    return _score_each(task, query, results)


def _score_each(task: Task, query: Query, results: Sequence[RolloutResult]) -> list[RolloutResult]:
    return [x if _is_settled(x) else _score_one(x, task, query) for x in results]


def _score_batch(
    task: BatchTask, query: Query, results: Sequence[RolloutResult]
) -> list[RolloutResult]:
    """Score all answers in one call; if the scorer raises, score each answer alone."""
    unsettled = [result for result in results if not _is_settled(result)]
    try:
        scores = iter(task.score_many([(query, result.text or "") for result in unsettled]))
        return [x if _is_settled(x) else _with_score(x, next(scores)) for x in results]
    except Exception:  # scorers are user code: only the answers they fail on may fail
        return _score_each(task, query, results)


def _score_group(
    task: GroupTask, query: Query, results: Sequence[RolloutResult]
) -> list[RolloutResult]:
    texts = [result.text for result in results if result.text is not None]
    try:
        scores = list(task.score_group(query, texts))
    except Exception as error:  # scorers are user code: an exception fails their answers
        why = f"the scorer failed: {describe_error(error)}"
        return [x if x.text is None else replace(x, utility=None, why=why) for x in results]
    if len(scores) != len(texts):
        raise DataError(
            f"task {task.name!r} gave {len(scores)} scores for {len(texts)} answers to "
            f"{query.id!r}: its score_group must return one score per answer"
        )
    remaining = iter(scores)
    return [x if x.text is None else _with_score(x, next(remaining)) for x in results]


def _is_settled(result: RolloutResult) -> bool:
    return result.text is None or result.utility is not None or result.why is not None


def _score_one(result: RolloutResult, task: Task, query: Query) -> RolloutResult:
    try:
        return _with_score(result, task.score(query, result.text or ""))
    except Exception as error:  # scorers are user code: an exception fails this answer
        return replace(result, why=f"the scorer failed: {describe_error(error)}")


def _with_score(result: RolloutResult, score: Score) -> RolloutResult:
    if score.value is None:
        return replace(result, utility=None, why=score.why or "the scorer gave no value")
    if not 0 <= score.value <= 1:
        why = f"the scorer gave {score.value}, which is not within 0..1"
        return replace(result, utility=None, why=why)
    return replace(result, utility=float(score.value), why=None)
