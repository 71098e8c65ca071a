"""Routing: one checkpoint is selected for the whole answer, from the question alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from taketurns.checkpoints.prompts import digit_ids, plain_text
from taketurns.errors import PromptError
from taketurns.evaluation.methods.base import Dev, MethodContext, Plain, alone_on_dev
from taketurns.evaluation.methods.regression import (
    HiddenStateReader,
    LogisticRegression,
    cross_validate,
    train,
)
from taketurns.generation.handover import CandidateRuntime
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace
from taketurns.utils.finite import check_choice

ROUTE = (
    "{models}\nWhich model should answer this question?\n{question}\n"
    "Please respond with a number from 0 to {last}."
)


class PromptRouting(Plain):
    """The last candidate reads the candidates' names and the question; the most probable number as
    its next token selects the candidate that answers. If that prompt does not fit its context, the
    last candidate answers. No text is sampled and searched for a digit."""

    async def check(self) -> None:
        info = await self._context.engine.info(self._context.last)
        digit_ids(info.codec, len(self._context.names))

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        try:
            chosen = await self._chosen(query)
        except PromptError:
            chosen = self._context.last
        return await self._context.answer(chosen, query, seed)

    async def _chosen(self, query: Query) -> str:
        """The selected candidate. Raises PromptError if the prompt is too long."""
        context = self._context
        info = await context.engine.info(context.last)
        listed = "\n".join(f"model {index}: {name}" for index, name in enumerate(context.names))
        text = ROUTE.format(
            models=listed, question=plain_text(query).strip(), last=len(context.names) - 1
        )
        reader = CandidateRuntime(context.config.candidates[-1], info)
        prompt = reader.prompt(Query(f"{query.id}/route", text=text)).ids
        digits = digit_ids(info.codec, len(context.names))
        async with context.engine.session(0, len(prompt) + 1) as session:
            scores = await session.score(context.last, prompt, digits)
        check_choice(scores, f"the router {context.last}")
        return context.names[max(range(len(scores)), key=scores.__getitem__)]


class TrainedRouter(Plain):
    """RouteLLM's causal-LM classifier (arXiv 2406.18665) for any number of models: a linear layer
    on the last candidate's hidden states after the question gives each candidate a probability of
    being the best. It is trained on dev answers; candidates that tie share the target evenly."""

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._reading = HiddenStateReader(context)
        self._judge: LogisticRegression | None = None

    async def check(self) -> None:
        await self._reading.check()

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        import torch

        alone = await alone_on_dev(self._context, dev)
        queries, rows = [], []
        for task in self._context.tasks:
            for answers in zip(*(alone[name][task] for name in self._context.names), strict=True):
                scores = torch.tensor([answer.score for answer in answers])
                queries.append(answers[0].query)
                best = (scores == scores.max()).float()
                rows.append(best / best.sum())
        features = torch.stack(await asyncio.gather(*map(self._reading.features, queries)))
        targets = torch.stack(rows)
        ridge, _ = cross_validate(features, targets, [query.id for query in queries])
        self._judge = train(features, targets, ridge)
        return {"questions": len(queries), "ridge": ridge}

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        assert self._judge is not None, "prepare() before answer()"
        features = await self._reading.features(query)
        chosen = int(self._judge.probabilities(features[None])[0].argmax())
        return await self._context.answer(self._context.names[chosen], query, seed)
