"""The candidates take turns: by a switcher, at random, or in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any

from taketurns.config.policy import Policy
from taketurns.evaluation.methods.base import Dev, MethodContext, Plain, answers_of, mean_score
from taketurns.generation.team import Team
from taketurns.switchers.base import Switcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace

LENGTH = 3  # speakers of a fixed sequence; the last one writes to the end
MOST = 64  # sequences to try


class SwitchingTeam(Plain):
    """A team with a switcher; `switchers` has the switcher of each task."""

    def __init__(
        self,
        context: MethodContext,
        switchers: Mapping[str, Switcher],
        policy: Policy | None = None,
    ) -> None:
        super().__init__(context)
        teams = {switcher: context.team(switcher, policy) for switcher in switchers.values()}
        self._teams = {task: teams[switcher] for task, switcher in switchers.items()}

    @classmethod
    def everywhere(
        cls, context: MethodContext, switcher: Switcher, policy: Policy | None = None
    ) -> SwitchingTeam:
        """The same switcher on all tasks."""
        return cls(context, dict.fromkeys(context.tasks, switcher), policy)

    @classmethod
    def token_by_token(cls, context: MethodContext, switcher: Switcher) -> SwitchingTeam:
        """The switcher is asked before every token, as token-level collaboration does
        (arXiv 2403.03870)."""
        return cls.everywhere(context, switcher, replace(context.policy, patch_size=1, patch=None))

    async def check(self) -> None:
        for team in self._teams.values():
            await team.check_prompt(Query(id="check", text="?"))

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._teams[task.name].agenerate(query, seed=seed)


class FixedSequence(Plain):
    """Speakers in a fixed order: the sequence of three speakers with the best score on dev, whose
    last speaker writes to the end; one for all tasks, or one per task (`by_task`). The policy's
    rules about speakers are left out, because an opening or closing speaker would make many
    sequences equal."""

    def __init__(self, context: MethodContext, *, by_task: bool) -> None:
        super().__init__(context)
        self._by_task = by_task
        self._teams: dict[tuple[int, ...], Team] = {}
        self._chosen: dict[str, tuple[int, ...]] = {}

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        scores: dict[tuple[int, ...], Mapping[str, float]] = {}
        for sequence in self._sequences():
            ask = answers_of(self._team(sequence))
            answers = await dev.answers("fixed " + "-".join(map(str, sequence)), ask)
            scores[sequence] = {
                task: fmean(answer.score for answer in dev_answers)
                for task, dev_answers in answers.items()
            } | {"": mean_score(answers)}
        self._chosen = {
            task: max(scores, key=lambda sequence: scores[sequence][task if self._by_task else ""])
            for task in self._context.tasks
        }
        names = self._context.names
        return {
            task: {
                "sequence": [names[index] for index in sequence],
                "dev": scores[sequence][task],
            }
            for task, sequence in self._chosen.items()
        }

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._team(self._chosen[task.name]).agenerate(query, seed=seed)

    def _sequences(self) -> list[tuple[int, ...]]:
        pool = range(len(self._context.names))
        length = next(n for n in range(LENGTH, 0, -1) if n == 1 or len(pool) ** n <= MOST)
        return list(product(pool, repeat=length))

    def _team(self, sequence: tuple[int, ...]) -> Team:
        if sequence not in self._teams:
            policy = self._context.policy.without_rules()
            patches = -(-policy.max_tokens // policy.shortest) + 2  # up to two closing patches
            rest = (sequence[-1],) * patches
            self._teams[sequence] = self._context.team(FixedSwitcher(sequence + rest), policy)
        return self._teams[sequence]
