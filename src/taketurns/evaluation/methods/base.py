"""What a method is, and what all methods share: the checkpoints, the engine, the rules.

A method answers one query with one trace. All methods have the same prompts, the same token budget
and the same sampling; what they choose, they choose on dev (`prepare`).
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
"""Answers a query of a task under a seed."""


@dataclass(frozen=True, slots=True)
class DevAnswer:
    """An answer to a dev question, its score in 0..1, and the tokens that it took."""

    query: Query
    text: str
    score: float
    tokens: int


class Dev(Protocol):
    """Asks dev questions for methods that must choose something. An answer is asked for once and
    kept, also from one run to the next."""

    async def answers(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        """By task, in the order of its dev questions. `name` says who answers: the same name must
        always mean the same answers. Raises UsageError for a task without a dev split."""
        ...


class Method(Protocol):
    """One way to answer with a team's checkpoints."""

    async def check(self) -> None:
        """Raise UsageError if it cannot work with this team, before anything runs."""
        ...

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        """Choose on dev what is to be chosen; what was chosen, in plain JSON values."""
        ...

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        """Answer one query. Equal seeds give equal traces. Raises EngineError, PromptError."""
        ...


class Plain:
    """A method that checks and chooses nothing."""

    def __init__(self, context: MethodContext) -> None:
        self._context = context

    async def check(self) -> None:
        """Works with any team."""

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        return {}


class MethodContext:
    """What methods stand on. `folder` takes what they write, such as merged checkpoints; `engine`
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
        """The candidates under a switcher."""
        rules, judge = policy or self.policy, self.config.judge
        if not isinstance(switcher, HeadSwitcher):
            rules = rules.unfollowed
        return Team(self.config.candidates, self.engine, switcher, rules, judge)

    async def check_vocabularies(self, otherwise: str) -> None:
        """Raise UsageError, saying `otherwise`, unless the candidates' ordinary tokens have the
        same ids."""
        infos = [await self.engine.info(name) for name in self.names]
        if SharedVocabulary.of(info.codec for info in infos) is None:
            raise UsageError(
                f"the vocabularies of {', '.join(self.names)} are not the same, so {otherwise}"
            )

    def alone(self, name: str) -> Team:
        """One candidate."""
        return self.team(FixedSwitcher([0])).alone(name)

    async def answer(self, name: str, query: Query, seed: int) -> Trace:
        """What the candidate answers, as it would alone."""
        return self._signed(await self._alone[name].agenerate(query, seed=seed), name)

    async def revise(
        self, name: str, query: Query, shown: Query, seed: int, otherwise: Trace
    ) -> Trace:
        """What the candidate answers to `query` when it is asked `shown`, which says more;
        `otherwise` where that does not fit its context."""
        try:
            trace = await self._alone[name].agenerate(shown, seed=seed)
        except PromptError:
            return otherwise
        return self._signed(replace(trace, query=query), name)

    @cached_property
    def _alone(self) -> dict[str, Team]:
        return {name: self.alone(name) for name in self.names}

    def _signed(self, trace: Trace, name: str) -> Trace:
        """The candidate was the only one of its team: give it its index in the whole one."""
        index = self.names.index(name)
        patches = (replace(patch, speaker=index) for patch in trace.patches)
        return replace(trace, patches=tuple(patches))

    def merged(self, name: str, spec: ModelSpec) -> Team:
        """A checkpoint made of the candidates, on an engine of its own."""
        candidate = Candidate(name, spec)
        if name not in self._more:
            self._more[name] = MeteredEngine(self._make_engine([candidate]))
        return Team([candidate], self._more[name], FixedSwitcher([0]), self.policy).alone(name)

    async def load(self) -> None:
        """Make all models ready to answer. Raises EngineError, or UsageError for one that is not
        served."""
        for name in self._models:
            await self.engine.load(name)
        for name, engine in self._more.items():
            await engine.load(name)

    async def dismiss(self, name: str) -> None:
        """Let a merged checkpoint go."""
        if name in self._more:
            await self._more.pop(name).close()

    async def dismiss_all(self) -> None:
        """Let all merged checkpoints go."""
        for name in list(self._more):
            await self.dismiss(name)

    async def close(self) -> None:
        """Release all engines."""
        await self.dismiss_all()
        await self.engine.close()


def answers_of(team: Team) -> Ask:
    """The answers of a team, whatever the task."""

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
    """Tokens an answer: the mean over tasks, as a score is."""
    return fmean(fmean(answer.tokens for answer in task) for task in answers.values())


async def best_on_dev(context: MethodContext, dev: Dev) -> str:
    """The candidate that scores most on dev; of equals the later one."""
    answers = await alone_on_dev(context, dev)
    return max(reversed(context.names), key=lambda name: mean_score(answers[name]))
