"""What the end of a rollout is worth, by its task's scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taketurns.errors import DataError
from taketurns.runs.runner import describe_error
from taketurns.tasks.base import BatchTask, GroupTask, Task
from taketurns.types import Query, Score


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """The whole answer that a rollout of `speaker`'s branch came to (None if it could not be
    written), and its utility or why there is none. `tokens` were written for it."""

    speaker: int
    text: str | None
    tokens: int = 0
    utility: float | None = None
    why: str | None = None


def score_rollouts(task: Task, query: Query, ends: Sequence[RolloutResult]) -> list[RolloutResult]:
    """Score the ends that have not been; a task that judges answers beside each other scores all of
    them anew.

    A scorer that raises, or gives no number within 0..1, leaves an end without a utility.
    """
    if isinstance(task, GroupTask):
        return _valued_together(task, query, ends)
    if isinstance(task, BatchTask):
        return _valued_at_once(task, query, ends)
    return [end if _settled(end) else _scored(end, task, query) for end in ends]


def _valued_at_once(
    task: BatchTask, query: Query, ends: Sequence[RolloutResult]
) -> list[RolloutResult]:
    """As one by one, for a scorer that is cheaper by many; if it raises, each is tried alone."""
    open_ = [end for end in ends if not _settled(end)]
    try:
        found = iter(task.score_many([(query, end.text or "") for end in open_]))
        return [end if _settled(end) else _with(end, next(found)) for end in ends]
    except Exception:  # a scorer may be anybody's; only the answers it fails at shall fail
        return [end if _settled(end) else _scored(end, task, query) for end in ends]


def _valued_together(
    task: GroupTask, query: Query, ends: Sequence[RolloutResult]
) -> list[RolloutResult]:
    texts = [end.text for end in ends if end.text is not None]
    try:
        scores = list(task.score_group(query, texts))
    except Exception as error:  # a scorer may be anybody's; what it raises is its answers' failure
        why = f"the scorer failed: {describe_error(error)}"
        return [end if end.text is None else replace(end, utility=None, why=why) for end in ends]
    if len(scores) != len(texts):
        raise DataError(
            f"task {task.name!r} gave {len(scores)} scores for {len(texts)} answers to {query.id!r}"
        )
    found = iter(scores)
    return [end if end.text is None else _with(end, next(found)) for end in ends]


def _settled(end: RolloutResult) -> bool:
    return end.text is None or end.utility is not None or end.why is not None


def _scored(end: RolloutResult, task: Task, query: Query) -> RolloutResult:
    try:
        return _with(end, task.score(query, end.text or ""))
    except Exception as error:  # a scorer may be anybody's; what it raises is this answer's failure
        return replace(end, why=f"the scorer failed: {describe_error(error)}")


def _with(end: RolloutResult, score: Score) -> RolloutResult:
    if score.value is None:
        return replace(end, utility=None, why=score.why or "the scorer gave no value")
    if not 0 <= score.value <= 1:
        why = f"the scorer gave {score.value}, which is not within 0..1"
        return replace(end, utility=None, why=why)
    return replace(end, utility=float(score.value), why=None)
