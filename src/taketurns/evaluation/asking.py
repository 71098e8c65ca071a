"""Asking many questions: a record of each answer, which a stopped run goes on with, or its score.

A record is a trace, its score and its cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import Ask
from taketurns.evaluation.methods.metering import counting
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.runs.records import Record, encode_record, query_to_json, trace_to_json
from taketurns.runs.runner import map_ordered
from taketurns.tasks.base import Split, Task
from taketurns.tasks.scorers.base import identity, sound
from taketurns.types import Query, Score, Trace

Values = dict[str, list[list[float]]]
"""Scores, `[task][question][seed]`."""


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One answer that is wanted. Its id holds a digest of the question and of how it is scored, so
    that no answer is taken for one to another question, and no score for one by other rules."""

    task: Task
    query: Query
    seed: int

    @property
    def question(self) -> str:
        """What all seeds share of the id."""
        scorer = getattr(self.task, "scorer", self.task)
        line = encode_record(query_to_json(self.query)) + identity(scorer).encode()
        digest = sha256(line).hexdigest()[:8]
        return f"{self.task.name}/{self.query.id}@{digest}"

    @property
    def id(self) -> str:
        return f"{self.question}#{self.seed}"


def requests(
    tasks: Iterable[Task], split: Split, limit: int | None, seeds: int
) -> list[AnswerRequest]:
    """The answers to the first `limit` questions of a split of each task, under each seed."""
    return [
        AnswerRequest(task, query, seed)
        for task in tasks
        for query in task.queries(split)[:limit]
        for seed in range(seeds)
    ]


def by_task(items: Sequence[AnswerRequest], scores: Iterable[float]) -> Values:
    """The items' scores, in their order."""
    values: dict[str, dict[str, list[float]]] = {}
    for item, score in zip(items, scores, strict=True):
        values.setdefault(item.task.name, {}).setdefault(item.query.id, []).append(score)
    return {task: list(questions.values()) for task, questions in values.items()}


def recorded(
    ask: Ask, names: Sequence[str], watch: Stopwatch, base_seed: int = 0
) -> Callable[[AnswerRequest], Awaitable[Record]]:
    """Makes the record of an answer under `base_seed` and its own; `names` are the candidates'."""

    async def work(item: AnswerRequest) -> Record:
        return await answer(ask, item, base_seed + item.seed, names, watch)

    return work


async def score_all(
    items: Sequence[AnswerRequest],
    ask: Ask,
    base_seed: int,
    concurrency: int,
    on_done: Callable[[Trace], None],
) -> list[float]:
    """The score of every answer, in the order of the items, 0 where it has none; nothing is kept.
    Raises EngineError if one fails."""

    async def work(item: AnswerRequest) -> float:
        trace = await _whole(ask, item, base_seed + item.seed)
        on_done(trace)
        return _score(item, trace).value or 0.0

    async with aclosing(map_ordered(items, work, concurrency)) as scores:
        return [score async for score in scores]


async def answer(
    ask: Ask, item: AnswerRequest, seed: int, names: Sequence[str], watch: Stopwatch
) -> Record:
    """The record of an answer under `seed`. Raises EngineError if there is no whole one."""
    with watch.share() as seconds, counting() as usage:
        trace = await _whole(ask, item, seed)
        spent = seconds()
    score = _score(item, trace)
    return {
        **trace_to_json(trace, names),
        "id": item.id,
        "task": item.task.name,
        "score": score.value,
        "answer": score.answer,
        "why": score.why,
        "read": usage.read,
        "written": usage.written,
        "passes": usage.passes,
        "by_model": usage.by_model,
        "seconds": round(spent, 6),
    }


async def _whole(ask: Ask, item: AnswerRequest, seed: int) -> Trace:
    trace = await ask(item.task, item.query, seed)
    if trace.error is not None:
        raise EngineError(trace.error)
    return trace


def _score(item: AnswerRequest, trace: Trace) -> Score:
    return sound(item.task.score(item.query, trace.text))
