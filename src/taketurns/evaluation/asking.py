"""Asking a method, and the record of what it answered: a trace, its score and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import Ask
from taketurns.evaluation.methods.metering import counting
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.runs.records import query_to_json, to_line, trace_to_json
from taketurns.tasks.base import Task
from taketurns.tasks.scorers.base import identity, sound
from taketurns.types import Query

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One answer that is wanted. Its id holds a digest of the question and of how it is scored, so
    that no answer is taken for one to another question, and no score for one by other rules."""

    task: Task
    query: Query
    seed: int

    @property
    def question(self) -> str:
        """What all seeds share of the id."""
        scorer = getattr(self.task, "scorer", self.task)
        line = to_line(query_to_json(self.query)) + identity(scorer).encode()
        digest = sha256(line).hexdigest()[:8]
        return f"{self.task.name}/{self.query.id}@{digest}"

    @property
    def id(self) -> str:
        return f"{self.question}#{self.seed}"


async def answer(ask: Ask, item: Item, seed: int, names: Sequence[str], watch: Stopwatch) -> Record:
    """The record of an answer under `seed`. Raises EngineError if there is no whole one."""
    with watch.share() as seconds, counting() as usage:
        trace = await ask(item.task, item.query, seed)
        spent = seconds()
    if trace.error is not None:
        raise EngineError(trace.error)
    score = sound(item.task.score(item.query, trace.text))
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
