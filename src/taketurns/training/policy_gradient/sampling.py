"""Whole answers for training on reward: the switcher's decisions in them, and their rewards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
class SwitchDecision:
    """The switcher's observation, in the form that its learner needs, the drawn speaker, and the
    natural-log probability of the draw."""

    observation: Any
    speaker: int
    logprob: float


@dataclass(frozen=True, slots=True)
class RewardedAnswer:
    """One answer: its decisions in order, its `utility`, and its `reward`, which is the utility
    minus the costs of tokens and of changes of speaker."""

    task: str
    query: str
    decisions: tuple[SwitchDecision, ...]
    utility: float
    reward: float
    tokens: int
    switches: int


class Actor(Protocol):
    """A team whose decisions are recorded."""

    async def answer(
        self, query: Query, seed: int, policy: Policy
    ) -> tuple[Trace, tuple[SwitchDecision, ...]]:
        """One answer and its decisions."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A query of a task."""

    task: Task
    query: Query


class Sampler:
    """Samples and scores groups of answers."""

    def __init__(self, names: Sequence[str], config: PolicyGradientConfig) -> None:
        self._prices = [config.prices.get(name, 0.0) for name in names]
        self._switch_cost = config.switch_cost
        self._free = asyncio.Semaphore(config.under_way)

    async def group(
        self,
        actor: Actor,
        question: Question,
        count: int,
        seed: int,
        policy: Policy,
    ) -> list[RewardedAnswer]:
        """`count` answers to one question; their draws depend only on `seed` and the question.
        Raises EngineError if one cannot be written or scored."""
        written = await asyncio.gather(
            *(self._answer(actor, question, derive(seed, n), policy) for n in range(count))
        )
        results = [RolloutResult(0, trace.text, trace.tokens) for trace, _ in written]
        answers = []
        for (trace, decisions), result in zip(
            written, score_rollouts(question.task, question.query, results), strict=True
        ):
            if result.utility is None:
                raise EngineError(f"{question.query.id}: {result.why}")
            answers.append(self._rewarded(question, trace, decisions, result.utility))
        return answers

    async def _answer(
        self,
        actor: Actor,
        question: Question,
        seed: int,
        policy: Policy,
    ) -> tuple[Trace, tuple[SwitchDecision, ...]]:
        async with self._free:
            trace, decisions = await actor.answer(question.query, seed, policy)
        if trace.error is not None:
            raise EngineError(f"{question.query.id}: {trace.error}")
        return trace, decisions

    def _rewarded(
        self,
        question: Question,
        trace: Trace,
        decisions: tuple[SwitchDecision, ...],
        utility: float,
    ) -> RewardedAnswer:
        patches = [patch for patch in trace.patches if patch.speaker is not None]
        switches = sum(before.speaker != after.speaker for before, after in pairwise(patches))
        spent = sum(self._prices[patch.speaker or 0] * len(patch.token_ids) for patch in patches)
        return RewardedAnswer(
            task=question.task.name,
            query=question.query.id,
            decisions=decisions,
            utility=utility,
            reward=utility - self._switch_cost * switches - spent,
            tokens=trace.tokens,
            switches=switches,
        )
