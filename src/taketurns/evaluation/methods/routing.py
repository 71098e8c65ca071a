"""Routing: one checkpoint is chosen for the whole answer, from the question alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from taketurns.checkpoints.prompts import digit_ids, plain_text
from taketurns.errors import PromptError
from taketurns.evaluation.methods.base import Dev, MethodContext, Plain, alone_on_dev
from taketurns.evaluation.methods.candidates import CandidateAsker
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
    """The last candidate is shown the candidates' names and the question, and the likeliest number
    as the first token of its answer says who answers; the last candidate itself where that prompt
    does not fit its context. No text is searched for a digit."""

    def __init__(self, stage: MethodContext) -> None:
        self._stage = stage
        self._asked = CandidateAsker(stage)

    async def check(self) -> None:
        info = await self._stage.engine.info(self._stage.last)
        digit_ids(info.codec, len(self._stage.names))

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        try:
            chosen = await self._chosen(query)
        except PromptError:
            chosen = self._stage.last
        return await self._asked.answer(chosen, query, seed)

    async def _chosen(self, query: Query) -> str:
        """Raises PromptError where what is asked is too long."""
        stage = self._stage
        info = await stage.engine.info(stage.last)
        listed = "\n".join(f"model {index}: {name}" for index, name in enumerate(stage.names))
        text = ROUTE.format(
            models=listed, question=plain_text(query).strip(), last=len(stage.names) - 1
        )
        reader = CandidateRuntime(stage.config.candidates[-1], info)
        prompt = reader.encode(reader.prompt(Query(f"{query.id}/route", text=text)))
        digits = digit_ids(info.codec, len(stage.names))
        async with stage.engine.session(0, len(prompt) + 1) as session:
            scores = await session.score(stage.last, prompt, digits)
        check_choice(scores, f"the router {stage.last}")
        return stage.names[max(range(len(scores)), key=scores.__getitem__)]


class TrainedRouter(Plain):
    """RouteLLM's causal-LM classifier (arXiv 2406.18665) for any number of models: a linear layer
    on the last candidate's states after the question says which candidate is likeliest to be the
    best; trained on dev answers, ties shared evenly."""

    def __init__(self, stage: MethodContext) -> None:
        self._stage = stage
        self._reading = HiddenStateReader(stage)
        self._asked = CandidateAsker(stage)
        self._judge: LogisticRegression | None = None

    async def check(self) -> None:
        await self._reading.check()

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        import torch

        alone = await alone_on_dev(self._stage, dev)
        queries, rows = [], []
        for task in self._stage.tasks:
            for answers in zip(*(alone[name][task] for name in self._stage.names), strict=True):
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
        return await self._asked.answer(self._stage.names[chosen], query, seed)
