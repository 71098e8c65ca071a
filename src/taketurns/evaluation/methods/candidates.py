"""A candidate writes the whole answer, alone or shown more than the question."""

from __future__ import annotations

from dataclasses import replace

from taketurns.errors import PromptError
from taketurns.evaluation.methods.base import MethodContext, Plain
from taketurns.generation.team import Team
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


class CandidateAsker:
    """Asks candidates by name, for their whole answers."""

    def __init__(self, stage: MethodContext) -> None:
        self._teams: dict[str, Team] = {name: stage.alone(name) for name in stage.names}
        self._indices = {name: index for index, name in enumerate(stage.names)}

    async def answer(self, name: str, query: Query, seed: int) -> Trace:
        """What the candidate answers, as it would alone."""
        return self._signed(await self._teams[name].agenerate(query, seed=seed), name)

    async def revise(
        self, name: str, query: Query, shown: Query, seed: int, otherwise: Trace
    ) -> Trace:
        """What the candidate answers to `query` when it is asked `shown`, which says more;
        `otherwise` where that does not fit its context."""
        try:
            trace = await self._teams[name].agenerate(shown, seed=seed)
        except PromptError:
            return otherwise
        return self._signed(replace(trace, query=query), name)

    def _signed(self, trace: Trace, name: str) -> Trace:
        """The candidate was the only one of its team: give it its index in the whole one."""
        index = self._indices[name]
        patches = (replace(patch, speaker=index) for patch in trace.patches)
        return replace(trace, patches=tuple(patches))


class Single(Plain):
    """The candidate `name` alone."""

    def __init__(self, stage: MethodContext, name: str) -> None:
        self._name = name
        self._asked = CandidateAsker(stage)

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._asked.answer(self._name, query, seed)
