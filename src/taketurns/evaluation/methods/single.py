"""One checkpoint writes the whole answer."""

from __future__ import annotations

from taketurns.evaluation.methods.base import MethodContext, Plain
from taketurns.evaluation.methods.candidates import CandidateAsker
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace


class Single(Plain):
    """The candidate `name` alone."""

    def __init__(self, stage: MethodContext, name: str) -> None:
        self._name = name
        self._asked = CandidateAsker(stage)

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._asked.answer(self._name, query, seed)
