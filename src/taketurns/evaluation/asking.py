"""Answers to many questions, as records that a stopped run continues, or as scores alone.

A record is a trace with its score and its cost.
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
    """One answer to ask for. Its id has a digest of the question and of the scorer, so that a
    stored record of another question or another scorer is never used for it."""

    task: Task
    query: Query
    seed: int

    @property
    def question(self) -> str:
        """The part of the id that is equal for all seeds."""
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
    """Requests for the first `limit` questions of a split of each task, with each seed."""
    return [
        AnswerRequest(task, query, seed)
        for task in tasks
        for query in task.queries(split)[:limit]
        for seed in range(seeds)
    ]


def by_task(items: Sequence[AnswerRequest], scores: Iterable[float]) -> Values:
    """Scores, one per item in the same order, as `[task][question][seed]`."""
    values: dict[str, dict[str, list[float]]] = {}
    for item, score in zip(items, scores, strict=True):
        values.setdefault(item.task.name, {}).setdefault(item.query.id, []).append(score)
    return {task: list(questions.values()) for task, questions in values.items()}


def recorded(
    ask: Ask, names: Sequence[str], watch: Stopwatch, base_seed: int = 0
) -> Callable[[AnswerRequest], Awaitable[Record]]:
    """A function that makes the record of an answer; `base_seed` is added to the seed of each item.
    `names` are the candidates' names."""

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
    """The score of every answer, in the order of the items, 0 if it has none; nothing is stored.
    Raises EngineError if an answer fails."""

    async def work(item: AnswerRequest) -> float:
        trace = await _whole(ask, item, base_seed + item.seed)
        on_done(trace)
        return _score(item, trace).value or 0.0

    async with aclosing(map_ordered(items, work, concurrency)) as scores:
        return [score async for score in scores]


async def answer(
    ask: Ask, item: AnswerRequest, seed: int, names: Sequence[str], watch: Stopwatch
) -> Record:
    """The record of an answer with `seed`. Raises EngineError if the answer is not complete."""
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
