"""A candidate writes the whole answer, to the question alone or to a longer prompt."""

from __future__ import annotations

from dataclasses import replace

from taketurns.evaluation.methods.base import MethodContext, Plain
from taketurns.tasks.base import Task
from taketurns.types import Message, Query, Trace


def reworded(query: Query, text: str, step: str) -> Query:
    """The query with `text` after the last user message; `step` as in `continued`."""
    messages = list(query.conversation)
    messages[-1] = Message(messages[-1].role, f"{messages[-1].content}\n{text}")
    if query.text is not None:
        return replace(query, id=f"{query.id}/{step}", text=messages[-1].content)
    return replace(query, id=f"{query.id}/{step}", messages=tuple(messages))


def continued(query: Query, answer: str, text: str, step: str) -> Query:
    """The conversation continued with the assistant's `answer` and the user's reply `text`. `step`
    becomes a part of the id, so that its random draws are different."""
    messages = (*query.conversation, Message("assistant", answer), Message("user", text))
    return replace(query, id=f"{query.id}/{step}", text=None, messages=messages)


class Single(Plain):
    """The candidate `name` alone."""

    def __init__(self, context: MethodContext, name: str) -> None:
        super().__init__(context)
        self._name = name

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._context.answer(self._name, query, seed)
