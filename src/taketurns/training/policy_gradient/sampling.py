"""Answers to learn from: whole ones, switched by the switcher that learns, with their reward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from taketurns.config.policy import Policy
from taketurns.errors import EngineError
from taketurns.tasks.base import Task
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.types import Query, Trace
from taketurns.utils.seeds import derive


@dataclass(frozen=True, slots=True)
class Decision:
    """What the switcher saw, in the terms of its learner, who was drawn, and with which
    log-probability."""

    seen: Any
    speaker: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer: its decisions in order, its task's `utility`, and the `reward`, which is the
    utility less what the answer cost."""

    task: str
    query: str
    decisions: tuple[Decision, ...]
    utility: float
    reward: float
    tokens: int
    switches: int


class Asking(Protocol):
    """A team whose decisions can be looked at."""

    async def ask(
        self, query: Query, seed: int, policy: Policy
    ) -> tuple[Trace, tuple[Decision, ...]]:
        """One answer and its decisions."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A query of a task."""

    task: Task
    query: Query


class Sampler:
    """Has groups of answers written and valued."""

    def __init__(self, names: Sequence[str], practice: PolicyGradientConfig) -> None:
        self._prices = [practice.prices.get(name, 0.0) for name in names]
        self._switch_cost = practice.switch_cost
        self._free = asyncio.Semaphore(practice.under_way)

    async def group(
        self,
        asking: Asking,
        question: Question,
        answers: int,
        seed: int,
        policy: Policy,
        on_done: Callable[[int], None] = lambda tokens: None,
    ) -> list[Sampled]:
        """So many answers to one question; their draws depend on `seed` and the question alone.
        Raises EngineError if one cannot be written or valued."""
        written = await asyncio.gather(
            *(self._one(asking, question, derive(seed, n), policy, on_done) for n in range(answers))
        )
        ends = [RolloutResult(0, trace.text, trace.tokens) for trace, _ in written]
        made = []
        for (trace, decisions), end in zip(
            written, score_rollouts(question.task, question.query, ends), strict=True
        ):
            if end.utility is None:
                raise EngineError(f"{question.query.id}: {end.why}")
            made.append(self._sampled(question, trace, decisions, end.utility))
        return made

    async def _one(
        self,
        asking: Asking,
        question: Question,
        seed: int,
        policy: Policy,
        on_done: Callable[[int], None],
    ) -> tuple[Trace, tuple[Decision, ...]]:
        async with self._free:
            trace, decisions = await asking.ask(question.query, seed, policy)
        if trace.error is not None:
            raise EngineError(f"{question.query.id}: {trace.error}")
        on_done(trace.tokens)
        return trace, decisions

    def _sampled(
        self, question: Question, trace: Trace, decisions: tuple[Decision, ...], utility: float
    ) -> Sampled:
        patches = [patch for patch in trace.patches if patch.speaker is not None]
        switches = sum(one.speaker != other.speaker for one, other in pairwise(patches))
        spent = sum(self._prices[patch.speaker or 0] * len(patch.token_ids) for patch in patches)
        return Sampled(
            task=question.task.name,
            query=question.query.id,
            decisions=decisions,
            utility=utility,
            reward=utility - self._switch_cost * switches - spent,
            tokens=trace.tokens,
            switches=switches,
        )
