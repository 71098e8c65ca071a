"""What methods score on the pocket tasks: checkpoints alone, switched by chance, by what was
learned. Every method is a team on one shared engine and answers the same questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.config.team_config import TeamConfig, load_team_config
from taketurns.engines.base import Engine
from taketurns.errors import EngineError, UsageError
from taketurns.evaluation.statistics import Share, average, share
from taketurns.generation.team import Team
from taketurns.switchers.base import Switcher
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Split, Task
from taketurns.types import ModelSpec, Query

if TYPE_CHECKING:
    from rich.table import Table

GLOBAL, BY_TASK, LM = "switch-global", "switch-task", "switch-lm"
PRACTISED = "switch-practised"
WHOLE = {GLOBAL: "global", PRACTISED: "practised", LM: "lm"}  # for all tasks: their folders
RANDOM, UNTUNED, AVERAGE = "random", "untuned", "average"
UNDER_WAY = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """`values[method][task]`: for every question the score of its answer under each seed."""

    values: Mapping[str, Mapping[str, tuple[tuple[float, ...], ...]]]

    def shares(self) -> dict[str, dict[str, Share]]:
        """By method and task; "average" is the mean over the tasks, the questions held fixed to
        their tasks."""
        found = {
            method: {task: share(answers) for task, answers in tasks.items()}
            for method, tasks in self.values.items()
        }
        return {
            method: tasks | {AVERAGE: average(self.values[method])}
            for method, tasks in found.items()
        }

    def to_json(self) -> dict[str, dict[str, dict[str, float]]]:
        """{method: {task: {mean, low, high, n}}}."""
        return {
            method: {task: one.to_json() for task, one in tasks.items()}
            for method, tasks in self.shares().items()
        }

    def write(self, path: Path) -> None:
        """Every answer's score as JSON, {method: {task: [[one a seed …] one a question …]}}."""
        try:
            path.write_text(json.dumps(self.values) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error

    def table(self) -> Table:
        """For people: a row a task, a column a method."""
        from rich.table import Table

        shares = self.shares()
        table = Table(box=None, caption="mean score, 95 % interval", caption_justify="left")
        table.add_column("task")
        for method in shares:
            table.add_column(method, justify="right")
        for task in next(iter(shares.values())):
            if task == AVERAGE:
                table.add_section()
            cells = [tasks[task] for tasks in shares.values()]
            table.add_row(task, *(f"{c.mean:.3f} ({c.low:.3f}-{c.high:.3f})" for c in cells))
        return table


class Methods:
    """The teams that methods name, on one engine. `switchers` is a folder with trained switchers:
    `global`, `practised` and `lm` for all tasks, and one a task under its name, for which `global`
    stands in where there is none (None: those beside the team file); `more` names further ones by
    method.

    Raises UsageError for a method or a switcher that is not there, ConfigError for one that cannot
    be loaded.
    """

    def __init__(
        self,
        team: TeamConfig,
        methods: Sequence[str],
        tasks: Sequence[str],
        switchers: Path | None = None,
        more: Mapping[str, Path] | None = None,
    ) -> None:
        from taketurns.engines.local.engine import LocalEngine

        self._team = team
        self._switchers = switchers or Path(str(team.source)).parent / "switchers"
        self._more = dict(more or {})
        self._specs: dict[str, ModelSpec] = {c.name: c.spec for c in team.candidates}
        made = {
            method: {task: self._switcher(method, task) for task in tasks}
            for method in methods
            if method not in self._specs
        }
        self.engine: Engine = LocalEngine.configured(self._specs, team.engine)
        unfollowed = team.policy.unfollowed
        whole = Team(team.candidates, self.engine, RandomSwitcher(), unfollowed)
        self.teams: dict[str, dict[str, Team]] = {}
        for method in methods:
            if method in made:
                self.teams[method] = {
                    task: Team(
                        team.candidates,
                        self.engine,
                        switcher,
                        team.policy if isinstance(switcher, HeadSwitcher) else unfollowed,
                    )
                    for task, switcher in made[method].items()
                }
            else:
                self.teams[method] = dict.fromkeys(tasks, whole.alone(method))

    def _switcher(self, method: str, task: str) -> Switcher:
        if method == RANDOM:
            return RandomSwitcher()
        if method == UNTUNED:  # the checkpoint that training starts from
            return LMSwitcher(self._team.candidates[-1].name)
        if method in self._more:
            return self._trained(self._more[method])
        if method in WHOLE:
            return self._trained(self._switchers / WHOLE[method])
        if method == BY_TASK:
            own = self._switchers / task
            return self._trained(own if own.is_dir() else self._switchers / WHOLE[GLOBAL])
        known = [c.name for c in self._team.candidates]
        known += [RANDOM, UNTUNED, *WHOLE, BY_TASK, *self._more]
        raise UsageError(f"there is no method {method!r}; the methods are {', '.join(known)}")

    def _trained(self, folder: Path) -> Switcher:
        if not (folder / "team.yaml").is_file():
            raise UsageError(
                f"there is no switcher at {folder}: train it with taketurns train --output {folder}"
            )
        config = load_team_config(folder).switcher
        name = f"(switcher {folder.resolve()})"
        if config.spec is not None:
            self._specs[name] = config.spec
        return make_switcher(config, name)


async def score(
    teams: Mapping[str, Mapping[str, Team]],
    tasks: Mapping[str, Task],
    *,
    split: Split = "test",
    limit: int | None = None,
    seeds: int = 1,
    on_done: Callable[[int], None] = lambda tokens: None,
) -> Scores:
    """Every method's answers to the first `limit` questions of every task, under each seed;
    `on_done` sees each answer's tokens. Raises EngineError if an answer fails."""
    gate = asyncio.Semaphore(UNDER_WAY)

    async def answer(team: Team, task: Task, query: Query, seed: int) -> float:
        async with gate:
            trace = await team.agenerate(query, seed=team.policy.seed + seed)
        if trace.error is not None:
            raise EngineError(trace.error)
        on_done(trace.tokens)
        return float(task.score(query, trace.text).value or 0.0)

    async def question(team: Team, task: Task, query: Query) -> tuple[float, ...]:
        return tuple(await asyncio.gather(*(answer(team, task, query, s) for s in range(seeds))))

    async def of_task(team: Team, task: Task) -> tuple[tuple[float, ...], ...]:
        asked = task.queries(split)[:limit]
        return tuple(await asyncio.gather(*(question(team, task, query) for query in asked)))

    return Scores(
        {
            method: {name: await of_task(by_task[name], task) for name, task in tasks.items()}
            for method, by_task in teams.items()
        }
    )


def parse_switcher(text: str) -> tuple[str, Path]:
    """`NAME=DIR` as a method and its folder. Raises UsageError."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"a switcher is written NAME=DIR, not {text!r}")
    return name, Path(folder)
