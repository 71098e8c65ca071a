"""A candidate writes the whole answer, alone or shown more than the question."""

from __future__ import annotations

from dataclasses import replace

from taketurns.evaluation.methods.base import MethodContext, Plain
from taketurns.tasks.base import Task
from taketurns.types import Message, Query, Trace


def reworded(query: Query, text: str, step: str) -> Query:
    """The query with `text` after what its user says last; `step` as in `continued`."""
    messages = list(query.conversation)
    messages[-1] = Message(messages[-1].role, f"{messages[-1].content}\n{text}")
    if query.text is not None:
        return replace(query, id=f"{query.id}/{step}", text=messages[-1].content)
    return replace(query, id=f"{query.id}/{step}", messages=tuple(messages))


def continued(query: Query, answer: str, text: str, step: str) -> Query:
    """The conversation gone on: `answer` was the assistant's, `text` is the user's reply. `step`
    names it, so that its draws are its own."""
    messages = (*query.conversation, Message("assistant", answer), Message("user", text))
    return replace(query, id=f"{query.id}/{step}", text=None, messages=messages)


class Single(Plain):
    """The candidate `name` alone."""

    def __init__(self, context: MethodContext, name: str) -> None:
        super().__init__(context)
        self._name = name

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._context.answer(self._name, query, seed)
