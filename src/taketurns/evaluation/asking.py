"""Asking a method, and the record of what it answered: a trace, its score and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from hashlib import sha256

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import Ask
from taketurns.evaluation.methods.metering import counting
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.runs.records import Record, encode_record, query_to_json, trace_to_json
from taketurns.tasks.base import Task
from taketurns.tasks.scorers.base import FIRST, sound, version_of
from taketurns.types import Query


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
        line = encode_record(query_to_json(self.query)) + _scoring(self.task).encode()
        digest = sha256(line).hexdigest()[:8]
        return f"{self.task.name}/{self.query.id}@{digest}"

    @property
    def id(self) -> str:
        return f"{self.question}#{self.seed}"


def _scoring(task: Task) -> str:
    """A task's scorer, with its settings, which stand in a dataclass's representation, and its
    version. The first version adds nothing, as before there were any."""
    scorer = getattr(task, "scorer", task)
    name = repr(scorer) if is_dataclass(scorer) else type(scorer).__qualname__
    version = version_of(scorer)
    return name if version == FIRST else f"{name} version {version}"


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
