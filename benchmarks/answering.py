"""Answers of a team to questions of the pocket world, and means of their scores with intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from taketurns.errors import EngineError
from taketurns.generation.team import Team
from taketurns.pocket.tasks import TASKS
from taketurns.tasks.base import Split, Task
from taketurns.types import Query, Trace

T = TypeVar("T")
Floats = NDArray[np.float64]
MeanFunction = Callable[[Floats], float]

UNDER_WAY = 256
RESAMPLES = 2000


async def answer_tasks(
    team: Team, record: Callable[[Task, Trace], T], split: Split, limit: int, seeds: int
) -> dict[str, list[list[T]]]:
    """`record` of every answer to the first `limit` questions of every pocket task under each seed,
    `[question][seed]` by task. Raises EngineError if one fails."""
    free = asyncio.Semaphore(UNDER_WAY)

    async def answer(task: Task, query: Query, seed: int) -> T:
        async with free:
            trace = await team.agenerate(query, seed=team.policy.seed + seed)
        if trace.error is not None:
            raise EngineError(trace.error)
        return record(task, trace)

    async def question(task: Task, query: Query) -> list[T]:
        return list(await asyncio.gather(*(answer(task, query, seed) for seed in range(seeds))))

    async def questions(task: Task) -> list[list[T]]:
        asked = task.queries(split)[:limit]
        return list(await asyncio.gather(*(question(task, query) for query in asked)))

    # All tasks together, so that batches are large.
    answered = await asyncio.gather(*map(questions, TASKS.values()))
    return dict(zip(TASKS, answered, strict=True))


@dataclass(frozen=True, slots=True)
class BootstrapMean:
    """A figure and its 95 % interval of resamples."""

    value: float
    low: float
    high: float


def bootstrap(shape: Sequence[int], figure: Callable[[MeanFunction], float]) -> BootstrapMean:
    """Resamples of a figure that is computed from means over arrays `[tasks, questions]` of this
    shape: questions are resampled within their task, the same ones for every array."""
    tasks, questions = shape
    rng = np.random.default_rng(0)
    rows = np.arange(tasks)[:, None]

    def resampled() -> float:
        drawn = rng.integers(questions, size=(tasks, questions))
        return figure(lambda array: float(array[rows, drawn].mean()))

    low, high = np.percentile([resampled() for _ in range(RESAMPLES)], (2.5, 97.5))
    return BootstrapMean(figure(lambda array: float(array.mean())), float(low), float(high))
