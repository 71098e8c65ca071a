"""A cascade: checkpoints answer one after another until a judge accepts an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain, islice, permutations
from statistics import fmean
from typing import Any

from taketurns.evaluation.methods.base import Dev, MethodContext, Plain, alone_on_dev, mean_score
from taketurns.evaluation.methods.regression import (
    HiddenStateReader,
    LogisticRegression,
    cross_validate,
    train,
)
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace

MOST_ORDERED = 4  # candidates of which every order is tried
THRESHOLDS = tuple(step / 20 for step in range(1, 20))


class Cascade(Plain):
    """FrugalGPT (arXiv 2305.05176): a judge, trained on dev answers to separate right from wrong
    ones by the last candidate's hidden states after question and answer, accepts an answer or
    passes the question to the next candidate; the answer of the last one is accepted without the
    judge. Order and threshold are the best on dev."""

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._reading = HiddenStateReader(context)
        self._judge: LogisticRegression | None = None
        self._order: Sequence[int] = ()
        self._threshold = 0.0

    async def check(self) -> None:
        await self._reading.check()

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        import torch

        names = self._context.names
        alone = await alone_on_dev(self._context, dev)
        answers = [list(chain.from_iterable(alone[name].values())) for name in names]
        flat = list(chain.from_iterable(answers))
        features = torch.stack(
            await asyncio.gather(*(self._reading.features(a.query, a.text) for a in flat))
        )
        right = torch.tensor([answer.score for answer in flat])
        targets = torch.stack((1 - right, right), 1)
        ridge, held_out = cross_validate(features, targets, [answer.query.id for answer in flat])
        self._judge = train(features, targets, ridge)
        # [candidate][question]: the judge's probabilities, from a fit without the question.
        trust = held_out[:, 1].reshape(len(names), -1).tolist()
        scores = [[answer.score for answer in column] for column in answers]
        sizes = [len(task) for task in alone[names[0]].values()]
        by_score = sorted(range(len(names)), key=lambda i: -mean_score(alone[names[i]]))
        orders = list(permutations(by_score)) if len(names) <= MOST_ORDERED else [tuple(by_score)]
        plans = [(order, threshold) for order in orders for threshold in THRESHOLDS]
        scores_on_dev = [
            _dev_score(order, threshold, trust, scores, sizes) for order, threshold in plans
        ]
        best = max(range(len(plans)), key=scores_on_dev.__getitem__)
        self._order, self._threshold = plans[best]
        return {
            "order": [names[index] for index in self._order],
            "threshold": self._threshold,
            "ridge": ridge,
            "dev": scores_on_dev[best],
        }

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        assert self._judge is not None, "prepare() before answer()"
        *others, last = (self._context.names[index] for index in self._order)
        for name in others:
            trace = await self._context.answer(name, query, seed)
            if trace.error is not None:
                return trace
            features = await self._reading.features(query, trace.text)
            if float(self._judge.probabilities(features[None])[0, 1]) >= self._threshold:
                return trace
        return await self._context.answer(last, query, seed)


def _dev_score(
    order: Sequence[int],
    threshold: float,
    trust: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]],
    sizes: Sequence[int],
) -> float:
    """The mean over tasks of the score on dev of an order with a threshold. `trust` and `scores`
    are `[candidate][question]`, with the questions task after task; `sizes` has their numbers."""
    *others, last = order
    reached = iter(
        [
            scores[next((c for c in others if trust[c][question] >= threshold), last)][question]
            for question in range(len(scores[0]))
        ]
    )
    # Rounded, so that equally good plans compare as equal.
    return round(fmean(fmean(islice(reached, size)) for size in sizes), 12)
