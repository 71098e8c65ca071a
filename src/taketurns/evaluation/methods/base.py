"""The protocol of a method, and what all methods share: the checkpoints, the engine, the policy.

A method answers one query with one trace. All methods have the same prompts, the same token budget
and the same sampling; they choose their settings on dev (`prepare`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.engines.base import Engine
from taketurns.errors import PromptError, UsageError
from taketurns.evaluation.methods.metering import MeteredEngine
from taketurns.generation.team import Team
from taketurns.switchers.base import Switcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.tasks.base import Task
from taketurns.types import Candidate, ModelSpec, Query, Trace

Ask = Callable[[Task, Query, int], Awaitable[Trace]]
"""A function that answers a query of a task with a seed."""


@dataclass(frozen=True, slots=True)
class DevAnswer:
    """An answer to a dev question, its score in 0..1, and its cost in tokens (read and written)."""

    query: Query
    text: str
    score: float
    tokens: int


class Dev(Protocol):
    """Asks dev questions for methods that choose settings. Each answer is asked once and stored,
    also from one run to the next."""

    async def answers(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        """The answers by task, in the order of its dev questions. `name` identifies the answers:
        the same name must always give the same ones. Raises UsageError for a task without a dev
        split."""
        ...


class Method(Protocol):
    """One way to answer with a team's checkpoints."""

    async def check(self) -> None:
        """Raise UsageError if it cannot work with this team, before anything runs."""
        ...

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        """Choose settings on dev; return them as plain JSON values (empty: nothing to choose)."""
        ...

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        """Answer one query. Equal seeds give equal traces. Raises EngineError, PromptError."""
        ...


class Plain:
    """A method that works with any team and chooses nothing."""

    def __init__(self, context: MethodContext) -> None:
        self._context = context

    async def check(self) -> None:
        """Works with any team."""

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        return {}


class MethodContext:
    """The resources of methods. They write files such as merged checkpoints to `folder`; `engine`
    runs the candidates, the guard's judge and the models of `more`."""

    def __init__(
        self,
        config: TeamConfig,
        tasks: Mapping[str, Task],
        folder: Path,
        make_engine: Callable[[Sequence[Candidate]], Engine],
        more: Sequence[Candidate] = (),
    ) -> None:
        self.config = config
        self.tasks = dict(tasks)
        self.folder = folder
        self.names = [candidate.name for candidate in config.candidates]
        self._make_engine = make_engine
        models = {model.name: model for model in (*config.writers_and_judge, *more)}
        self._models = list(models)
        self.engine = MeteredEngine(make_engine(list(models.values())))
        self._more: dict[str, MeteredEngine] = {}

    @property
    def policy(self) -> Policy:
        return self.config.policy

    @property
    def last(self) -> str:
        """The last candidate: the aligned checkpoint of a pipeline."""
        return self.names[-1]

    def team(self, switcher: Switcher, policy: Policy | None = None) -> Team:
        """A team of the candidates with this switcher."""
        rules, judge = policy or self.policy, self.config.judge
        if not isinstance(switcher, HeadSwitcher):
            rules = rules.unfollowed
        return Team(self.config.candidates, self.engine, switcher, rules, judge)

    async def check_vocabularies(self, otherwise: str) -> None:
        """Raise UsageError unless the candidates' ordinary tokens have the same ids; `otherwise` is
        the consequence that the message names."""
        infos = [await self.engine.info(name) for name in self.names]
        if SharedVocabulary.of(info.codec for info in infos) is None:
            raise UsageError(
                f"the vocabularies of {', '.join(self.names)} differ, so {otherwise}: leave this "
                "method out"
            )

    def alone(self, name: str) -> Team:
        """A team of one candidate."""
        return self.team(FixedSwitcher([0])).alone(name)

    async def answer(self, name: str, query: Query, seed: int) -> Trace:
        """The answer of the candidate alone."""
        return self._signed(await self._alone[name].agenerate(query, seed=seed), name)

    async def revise(
        self, name: str, query: Query, shown: Query, seed: int, otherwise: Trace
    ) -> Trace:
        """The candidate's answer to `shown`, a longer form of `query`; `otherwise` if `shown` does
        not fit its context."""
        try:
            trace = await self._alone[name].agenerate(shown, seed=seed)
        except PromptError:
            return otherwise
        return self._signed(replace(trace, query=query), name)

    @cached_property
    def _alone(self) -> dict[str, Team]:
        return {name: self.alone(name) for name in self.names}

    def _signed(self, trace: Trace, name: str) -> Trace:
        """The trace with the candidate's index in the whole team instead of that in a team of
        one."""
        index = self.names.index(name)
        patches = (replace(patch, speaker=index) for patch in trace.patches)
        return replace(trace, patches=tuple(patches))

    def merged(self, name: str, spec: ModelSpec) -> Team:
        """A team of one checkpoint that was merged from the candidates, on its own engine."""
        candidate = Candidate(name, spec)
        if name not in self._more:
            self._more[name] = MeteredEngine(self._make_engine([candidate]))
        return Team([candidate], self._more[name], FixedSwitcher([0]), self.policy).alone(name)

    async def load(self) -> None:
        """Load all models. Raises EngineError, or UsageError for a model that is not served."""
        for name in self._models:
            await self.engine.load(name)
        for name, engine in self._more.items():
            await engine.load(name)

    async def dismiss(self, name: str) -> None:
        """Release a merged checkpoint."""
        if name in self._more:
            await self._more.pop(name).close()

    async def dismiss_all(self) -> None:
        """Release all merged checkpoints."""
        for name in list(self._more):
            await self.dismiss(name)

    async def close(self) -> None:
        """Release all engines."""
        await self.dismiss_all()
        await self.engine.close()


def answers_of(team: Team) -> Ask:
    """Answers of a team, the same for every task."""

    async def ask(task: Task, query: Query, seed: int) -> Trace:
        return await team.agenerate(query, seed=seed)

    return ask


async def alone_on_dev(
    context: MethodContext, dev: Dev
) -> dict[str, Mapping[str, Sequence[DevAnswer]]]:
    """Every candidate's dev answers, by candidate and task."""
    return {
        name: await dev.answers(f"alone {name}", answers_of(context.alone(name)))
        for name in context.names
    }


def mean_score(answers: Mapping[str, Sequence[DevAnswer]]) -> float:
    """The mean over tasks."""
    return fmean(fmean(answer.score for answer in task) for task in answers.values())


def mean_tokens(answers: Mapping[str, Sequence[DevAnswer]]) -> float:
    """Tokens per answer: the mean over tasks, as for a score."""
    return fmean(fmean(answer.tokens for answer in task) for task in answers.values())


async def best_on_dev(context: MethodContext, dev: Dev) -> str:
    """The candidate with the highest score on dev; the later one of equals."""
    answers = await alone_on_dev(context, dev)
    return max(reversed(context.names), key=lambda name: mean_score(answers[name]))
