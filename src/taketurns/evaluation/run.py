"""The run of an evaluation: check everything first, then let each method answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.engines.factory import make_engine
from taketurns.errors import EngineError, UsageError
from taketurns.evaluation.asking import AnswerRequest, answer, recorded, requests
from taketurns.evaluation.dev import DevCache
from taketurns.evaluation.methods.base import Method, MethodContext, Plain
from taketurns.evaluation.methods.registry import ORACLE, MethodEntry, methods, own_methods
from taketurns.evaluation.methods.trained import TrainedSwitchers, own
from taketurns.evaluation.stopwatch import CLOCKS, Clock, Stopwatch
from taketurns.evaluation.store import Store
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import JsonlOutput
from taketurns.runs.records import Record
from taketurns.runs.runner import Failures, run
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Task
from taketurns.utils.locks import lock_async


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """What to ask: methods by `names` (None: all that work with the team), the first `limit` test
    questions per task with `seeds` seeds, and `dev_limit` dev questions per task to choose settings
    on. A `helping` process skips methods that another process runs, and shows no progress. Seconds
    are measured with `clock`."""

    tasks: Mapping[str, Task]
    names: Sequence[str] | None
    seeds: int
    limit: int | None
    dev_limit: int
    concurrency: int
    helping: bool = False
    clock: Clock = "wall"

    def settings(self) -> dict[str, Any]:
        """For the reader of the results: the numbers of test and dev questions of each task, and
        how they are asked."""
        return {
            "tasks": {
                name: {
                    "test": len(task.queries("test")[: self.limit]),
                    "dev": len(task.queries("dev")[: self.dev_limit]),
                }
                for name, task in self.tasks.items()
            },
            "seeds": self.seeds,
            "clock": self.clock,
            "concurrency": self.concurrency,
        }

    def items(self) -> list[AnswerRequest]:
        """Every answer that a method must give."""
        return requests(self.tasks.values(), "test", self.limit, self.seeds)


class Evaluation:
    """The methods of a job on one engine. Raises UsageError for an unknown method.

    async with Evaluation(config, job, store, trained, say) as evaluation:
        failures = await evaluation.run()
    """

    def __init__(
        self,
        config: TeamConfig,
        job: EvaluationJob,
        store: Store,
        trained: Mapping[str, TrainedSwitchers],
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._job = job
        self._store = store
        self._trained = dict(trained)
        self._say = say
        mine = own(config, list(job.tasks))
        known = methods([c.name for c in config.candidates], mine, trained)
        known |= own_methods([name for name in job.names or () if name not in known])
        self._entries = _chosen(known, job.names)
        named = job.names is not None
        if not named and config.switcher.kind == "random":
            self._entries.pop("switch")  # the same as the method "random"
        used = [mine, *(switchers for name, switchers in trained.items() if name in self._entries)]
        more = [model for switchers in used for model in switchers.models()]
        if config.engine.kind == "http":  # no server has a switcher from a folder
            more = [model for model in more if model.endpoint is not None]
        self._context = MethodContext(
            config,
            job.tasks,
            store.models,
            lambda models: make_engine(models, config.engine),
            more,
        )
        self._methods: dict[str, Method] = {}
        self._at: tuple[str, asyncio.Task[Method]] | None = None
        self._watch = Stopwatch(CLOCKS[job.clock])
        self._dev = DevCache(
            store,
            job.tasks,
            self._context.names,
            job.dev_limit,
            config.policy.seed,
            job.concurrency,
            quiet=job.helping,
        )

    async def __aenter__(self) -> Evaluation:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._context.close()

    @property
    def entries(self) -> list[MethodEntry]:
        """The methods of the evaluation; after `check`, those that work."""
        return list(self._entries.values())

    @property
    def checked(self) -> dict[str, str | None]:
        """The methods that answer, each with the digest of the dev questions that it chooses its
        settings on (None if it chooses nothing); known after `check`."""
        return {name: _digest(self._dev, method) for name, method in self._methods.items()}

    async def run(self) -> Failures:
        """Ask everything that has not been answered; return the answers that failed. All methods
        are checked before anything is asked. Methods that another process runs come last."""
        items = self._job.items()
        if not self._methods:
            await self.check()
        failures, taken = Failures(), []
        for name in self._methods:
            async with lock_async(self._file(name), wait=False) as mine:
                if mine:
                    failures += await self._ask(name, items)
                else:
                    taken.append(name)
        for name in () if self._job.helping else taken:
            async with lock_async(self._file(name), wait=True):
                failures += await self._ask(name, items)
        return failures

    async def check(self) -> None:
        """Raise UsageError if a question or method cannot be asked, before anything is asked."""
        items = self._job.items()
        if not items:
            raise UsageError(
                f"there is nothing to ask: the tasks ({', '.join(self._job.tasks)}) have no test "
                "questions; name a task with --task that has some"
            )
        if ORACLE in self._entries and (
            missing := [name for name in self._context.names if name not in self._entries]
        ):
            raise UsageError(
                f"the method {ORACLE!r} is computed from the answers of the single checkpoints: "
                f"add {', '.join(missing)} to --methods"
            )
        team = self._context.team(RandomSwitcher())
        for query in {item.query.id: item.query for item in items}.values():
            await team.check_prompt(query)
        for name, entry in list(self._entries.items()):
            if entry.make is None:
                continue
            try:
                method = entry.make(self._context)
                await method.check()
                _digest(self._dev, method)
            except UsageError as error:
                if self._job.names is not None:
                    raise
                self._say(f"{name} is left out: {error}")
                self._entries.pop(name)
            else:
                self._methods[name] = method
        async with lock_async(self._store.folder / "check", wait=True):
            self._store.begin(self._job.clock)
            for name in self._methods:
                self.claim(name)

    def claim(self, name: str) -> Manifest:
        """Claim the file of a method's answers for this evaluation. Raises DataError if it holds
        answers of another one."""
        digest = _digest(self._dev, self._methods[name])
        part = self._entries[name].part
        return self._store.claim(self._file(name), self._switchers(name), digest, part)

    def _file(self, name: str) -> Path:
        return self._store.answers(name, _digest(self._dev, self._methods[name]))

    async def answer(self, name: str, item: AnswerRequest) -> Record:
        """The record of one answer of one method; the caller stores it. The first answer of a
        method prepares it and releases the method before it, so only one method may be in use at a
        time."""
        if self._at is None or self._at[0] != name:
            self._at = (name, asyncio.create_task(self._make_ready(name)))
        method = await self._at[1]
        seed = self._config.policy.seed + item.seed
        return await answer(method.answer, item, seed, self._context.names, self._watch)

    async def _make_ready(self, name: str) -> Method:
        await self._context.dismiss_all()
        make = self._entries[name].make
        assert make is not None, f"{name} is computed from other methods and gives no answers"
        method = make(self._context)
        await method.check()
        async with lock_async(self._store.choice(name, _digest(self._dev, method)), wait=True):
            await self._choose(name, method)
        await self._load()
        return method

    async def _choose(self, name: str, method: Method) -> None:
        if chosen := await method.prepare(self._dev):
            self._store.choose(name, _digest(self._dev, method), chosen)

    async def _load(self) -> None:
        """Load the models, so that only answering is timed. If a model fails to load, the answers
        that need it report the error; raises ConfigError for a model that can never be loaded."""
        with suppress(EngineError):
            await self._context.load()

    def _switchers(self, name: str) -> Mapping[str, SwitcherConfig]:
        return self._trained[name].by_task if name in self._trained else {}

    async def _ask(self, name: str, items: Sequence[AnswerRequest]) -> Failures:
        """Let one method give its missing answers."""
        path, method = self._file(name), self._methods[name]
        manifest = self.claim(name)
        with JsonlOutput(path) as output:
            if output.missing(items):
                await self._choose(name, method)
                await self._load()
            watch, seed = Stopwatch(CLOCKS[self._job.clock]), self._config.policy.seed
            failures = await run(
                items,
                recorded(method.answer, self._context.names, watch, seed),
                output,
                concurrency=self._job.concurrency,
                label=None if self._job.helping else name,
                token_key="written",
            )
        await self._context.dismiss_all()
        manifest.finish(path)
        return failures


def _chosen(
    known: Mapping[str, MethodEntry], names: Sequence[str] | None
) -> dict[str, MethodEntry]:
    """The methods of these names, in the table's order."""
    for name in names or ():
        if name not in known:
            raise UsageError(f"there is no method {name!r}; the methods are {', '.join(known)}")
    return {name: entry for name, entry in known.items() if names is None or name in names}


def _digest(dev: DevCache, method: Method) -> str | None:
    """The digest of the dev questions that the method chooses on; None if it chooses nothing."""
    if getattr(type(method), "prepare", None) is Plain.prepare:
        return None
    return dev.digest()
