"""Several answers of one checkpoint: the effect of more samples alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from taketurns.errors import EngineError
from taketurns.evaluation.methods.base import (
    Dev,
    MethodContext,
    Plain,
    alone_on_dev,
    answers_of,
    best_on_dev,
    mean_tokens,
)
from taketurns.switchers.base import Switcher
from taketurns.tasks.base import Task, canonical_answer
from taketurns.tasks.scorers.base import sound
from taketurns.types import Query, Trace


class _Samples(Plain):
    """`n` answers of the best candidate on dev; `n` is chosen so that they cost at least as many
    tokens (read and written) as an answer of the team."""

    least: int

    def __init__(self, context: MethodContext, switcher: Switcher) -> None:
        super().__init__(context)
        self._team = context.team(switcher)
        self._name, self._n = "", 0

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        self._name = await best_on_dev(self._context, dev)
        alone = mean_tokens((await alone_on_dev(self._context, dev))[self._name])
        team = mean_tokens(await dev.answers("switch", answers_of(self._team)))
        self._n = max(self.least, ceil(team / alone))
        return {"candidate": self._name, "n": self._n, "tokens": alone, "team tokens": team}

    async def _sample(self, query: Query, seed: int) -> list[Trace]:
        """The first is the candidate's own answer under this seed."""
        asked = [
            query if number == 0 else replace(query, id=f"{query.id}/{number}")
            for number in range(self._n)
        ]
        traces = await asyncio.gather(*(self._context.answer(self._name, q, seed) for q in asked))
        for trace in traces:
            if trace.error is not None:
                raise EngineError(trace.error)
        return [replace(trace, query=query) for trace in traces]


class SelfConsistency(_Samples):
    """The most frequent of the answers (Wang et al., arXiv 2203.11171)."""

    least = 3

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return majority(task, query, await self._sample(query, seed))


class BestOfN(_Samples):
    """The best of the answers by the task's scorer: an upper bound for every way to choose."""

    least = 2

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        samples = await self._sample(query, seed)
        return max(samples, key=lambda trace: sound(task.score(query, trace.text)).value or 0.0)


def majority(task: Task, query: Query, traces: Sequence[Trace]) -> Trace:
    """The first trace with the most frequent canonical answer; of equally frequent answers, the one
    that came first. Texts without a canonical answer do not count; if there is none, the first
    trace. The reference plays no part."""
    for trace in traces:
        if trace.error is not None:
            raise EngineError(trace.error)
    votes = [canonical_answer(task, query, trace.text) for trace in traces]
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return traces[0]
    most = counts.most_common(1)[0][0]
    return traces[votes.index(most)]
