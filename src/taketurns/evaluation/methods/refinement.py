"""Text-level collaboration: answers that are written again with others' words at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import MethodContext, Plain
from taketurns.evaluation.methods.candidates import CandidateAsker, continued, reworded
from taketurns.evaluation.methods.voting import majority
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace

OTHERS = "Other answers:\n{answers}\nUse them to write a better answer."
REVIEW = "The answer given: {answer}\nSay what is wrong in it."
IMPROVE = "The answer given: {answer}\nWhat others say of it:\n{reviews}\nWrite a better answer."
REFINE = "The answer given: {answer}\nWrite it better."


class MultiagentRefine(Plain):
    """Multiagent debate (Du et al., arXiv 2305.14325), two rounds: every candidate answers, every
    candidate, its own answer in the conversation, is told the others' and answers again, and the
    majority of these counts; of equals the last candidate's."""

    def __init__(self, stage: MethodContext) -> None:
        self._names = stage.names
        self._asked = CandidateAsker(stage)

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        first = await asyncio.gather(
            *(self._asked.answer(name, query, seed) for name in self._names)
        )
        refined = await asyncio.gather(
            *(
                self._asked.revise(
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
                for index, name in enumerate(self._names)
            )
        )
        return majority(task, query, list(reversed(refined)))


class MultiagentFeedback(Plain):
    """The last candidate answers, the others say what is wrong, and it writes its answer again
    (self-refinement, arXiv 2303.17651, with the other checkpoints as the critics)."""

    def __init__(self, stage: MethodContext) -> None:
        self._last, self._critics = stage.last, stage.names[:-1]
        self._asked = CandidateAsker(stage)

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        draft = await self._asked.answer(self._last, query, seed)
        reviews = await asyncio.gather(
            *(
                self._asked.revise(
                    critic,
                    query,
                    reworded(query, REVIEW.format(answer=_text(draft)), f"review-{critic}"),
                    seed,
                    otherwise=Trace(query, (), seed),
                )
                for critic in self._critics
            )
        )
        text = IMPROVE.format(answer=_text(draft), reviews=_listed(reviews))
        shown = reworded(query, text, "improve")
        return await self._asked.revise(self._last, query, shown, seed, draft)


class BaseRefines(Plain):
    """The first candidate (the pretrained model) writes the last one's answer again."""

    def __init__(self, stage: MethodContext) -> None:
        self._first, self._last = stage.names[0], stage.last
        self._asked = CandidateAsker(stage)

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        draft = await self._asked.answer(self._last, query, seed)
        text = REFINE.format(answer=_text(draft))
        shown = reworded(query, text, "refine")
        return await self._asked.revise(self._first, query, shown, seed, draft)


def _listed(traces: Sequence[Trace], without: int | None = None) -> str:
    kept = [trace for index, trace in enumerate(traces) if index != without]
    return "\n".join(f"{number}. {_text(trace)}" for number, trace in enumerate(kept, 1))


def _text(trace: Trace) -> str:
    """What was written, in one line."""
    return " ".join(_whole(trace).split())


def _whole(trace: Trace) -> str:
    """What was written. Raises EngineError if writing it failed: nothing is built on half an
    answer."""
    if trace.error is not None:
        raise EngineError(trace.error)
    return trace.text.strip()
