"""Scores of methods on the pocket tasks: single checkpoints, random switching and trained
switchers. All methods are teams on one shared engine and answer the same questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.config.team_config import TeamConfig
from taketurns.engines.base import Engine
from taketurns.errors import UsageError
from taketurns.evaluation.asking import Values, by_task, requests, score_all
from taketurns.evaluation.methods.base import answers_of
from taketurns.evaluation.methods.trained import BY_TASK, WHOLE, find
from taketurns.evaluation.statistics import SeedScores, Share, average, share
from taketurns.generation.team import Team
from taketurns.switchers.base import Switcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Split, Task

if TYPE_CHECKING:
    from rich.table import Table

RANDOM, UNTUNED, AVERAGE = "random", "untuned", "average"
UNDER_WAY = 256


@dataclass(frozen=True, slots=True)
class MethodScores:
    """`values[method][task]` has for every question the score of its answer under each seed."""

    values: Mapping[str, Mapping[str, SeedScores]]

    def shares(self) -> dict[str, dict[str, Share]]:
        """The mean scores with intervals, by method and task; "average" is the mean over the
        tasks."""
        by_method = {
            method: {task: share(answers) for task, answers in tasks.items()}
            for method, tasks in self.values.items()
        }
        return {
            method: tasks | {AVERAGE: average(self.values[method])}
            for method, tasks in by_method.items()
        }

    def to_json(self) -> dict[str, dict[str, dict[str, float]]]:
        """{method: {task: {mean, low, high, n}}}."""
        return {
            method: {task: interval.to_json() for task, interval in tasks.items()}
            for method, tasks in self.shares().items()
        }

    def write(self, path: Path) -> None:
        """Write every answer's score as JSON: {method: {task: [[one per seed, …], one list per
        question, …]}}. Raises UsageError."""
        try:
            path.write_text(json.dumps(self.values) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error

    def table(self) -> Table:
        """A table with a row per task and a column per method."""
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
    """The teams of the methods, on one engine. `switchers` is a folder with trained switchers
    (None: the one beside the team file): `global`, `practised` and `lm` for all tasks, and one per
    task under the task's name, for which `global` is used if it is missing. `more` has further
    switchers by method.

    Raises UsageError for an unknown method or a missing switcher, ConfigError for one that cannot
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

        folder = switchers or Path(str(team.source)).parent / "switchers"
        folders = {name: folder / part for name, part in WHOLE.items()}
        folders |= {BY_TASK: folder} | dict(more or {})
        names = [candidate.name for candidate in team.candidates]
        known = [*names, RANDOM, UNTUNED, *folders]
        for method in methods:
            if method not in known:
                raise UsageError(
                    f"there is no method {method!r}; the methods are {', '.join(known)}"
                )
        trained = {
            method: find(folders[method], tasks)
            for method in methods
            if method not in (*names, RANDOM, UNTUNED)
        }
        models = [
            model for switchers_found in trained.values() for model in switchers_found.models()
        ]
        specs = {model.name: model.spec for model in (*team.candidates, *models)}
        self.engine: Engine = LocalEngine.configured(specs, team.engine)

        def switched(switcher: Switcher) -> Team:
            headed = isinstance(switcher, HeadSwitcher)
            policy = team.policy if headed else team.policy.unfollowed
            return Team(team.candidates, self.engine, switcher, policy)

        self.teams: dict[str, dict[str, Team]] = {}
        for method in methods:
            if method in trained:
                switchers_by_task = trained[method].switchers()
                teams = {task: switched(made) for task, made in switchers_by_task.items()}
            elif method == UNTUNED:  # the checkpoint that training starts from
                teams = dict.fromkeys(tasks, switched(LMSwitcher(names[-1])))
            else:
                whole = switched(RandomSwitcher())
                teams = dict.fromkeys(tasks, whole if method == RANDOM else whole.alone(method))
            self.teams[method] = teams


async def score(
    teams: Mapping[str, Mapping[str, Team]],
    tasks: Mapping[str, Task],
    *,
    split: Split = "test",
    limit: int | None = None,
    seeds: int = 1,
    on_done: Callable[[int], None] = lambda tokens: None,
) -> MethodScores:
    """Score every method's answers to the first `limit` questions of every task, under each seed;
    `on_done` gets the number of tokens of each answer. Raises EngineError if an answer fails."""
    values: dict[str, Values] = {}
    for method, by_name in teams.items():
        values[method] = {}
        for name, task in tasks.items():
            items, team = requests([task], split, limit, seeds), by_name[name]
            made = await score_all(
                items, answers_of(team), team.policy.seed, UNDER_WAY, lambda t: on_done(t.tokens)
            )
            values[method][name] = by_task(items, made).get(task.name, [])
    return MethodScores(values)
