"""Text-level collaboration: a candidate writes an answer again with other candidates' texts in its
prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import Plain
from taketurns.evaluation.methods.candidates import continued, reworded
from taketurns.evaluation.methods.voting import majority
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace

OTHERS = "Other answers:\n{answers}\nUse them to write a better answer."
REVIEW = "The answer given: {answer}\nSay what is wrong in it."
IMPROVE = "The answer given: {answer}\nWhat others say of it:\n{reviews}\nWrite a better answer."
REFINE = "The answer given: {answer}\nWrite it better."


class MultiagentRefine(Plain):
    """Multiagent debate (Du et al., arXiv 2305.14325), two rounds: every candidate answers; every
    candidate reads the others' answers, with its own in the conversation, and answers again; the
    majority of these is the answer, of equal ones that of the later candidate."""

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        names = self._context.names
        first = await asyncio.gather(*(self._context.answer(name, query, seed) for name in names))
        refined = await asyncio.gather(
            *(
                self._context.revise(
                    name,
                    query,
                    continued(
                        query,
                        _whole(first[index]),
                        OTHERS.format(answers=_listed(first, without=index)),
                        f"refine-{name}",
                    ),
                    seed,
                    otherwise=first[index],
                )
                for index, name in enumerate(names)
            )
        )
        return majority(task, query, list(reversed(refined)))


class MultiagentFeedback(Plain):
    """The last candidate answers, the others criticise the answer, and the last writes it again
    (self-refinement, arXiv 2303.17651, with the other checkpoints as critics)."""

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        draft = await self._context.answer(self._context.last, query, seed)
        reviews = await asyncio.gather(
            *(
                self._context.revise(
                    critic,
                    query,
                    reworded(query, REVIEW.format(answer=_text(draft)), f"review-{critic}"),
                    seed,
                    otherwise=Trace(query, (), seed),
                )
                for critic in self._context.names[:-1]
            )
        )
        text = IMPROVE.format(answer=_text(draft), reviews=_listed(reviews))
        shown = reworded(query, text, "improve")
        return await self._context.revise(self._context.last, query, shown, seed, draft)


class BaseRefines(Plain):
    """The first candidate (the pretrained model) rewrites the answer of the last one."""

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        draft = await self._context.answer(self._context.last, query, seed)
        text = REFINE.format(answer=_text(draft))
        shown = reworded(query, text, "refine")
        return await self._context.revise(self._context.names[0], query, shown, seed, draft)


def _listed(traces: Sequence[Trace], without: int | None = None) -> str:
    kept = [trace for index, trace in enumerate(traces) if index != without]
    return "\n".join(f"{number}. {_text(trace)}" for number, trace in enumerate(kept, 1))


def _text(trace: Trace) -> str:
    """The text of an answer in one line."""
    return " ".join(_whole(trace).split())


def _whole(trace: Trace) -> str:
    """The text of an answer. Raises EngineError if the answer failed: an incomplete answer is not
    used."""
    if trace.error is not None:
        raise EngineError(trace.error)
    return trace.text.strip()
