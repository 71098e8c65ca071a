"""Trained switchers, found on disk: one for all tasks, or one a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import UsageError
from taketurns.switchers import head
from taketurns.switchers.base import Switcher
from taketurns.switchers.factory import make_switcher
from taketurns.types import Candidate, ModelSpec

GLOBAL, ON_REWARD, LM = "switch-global", "switch-practised", "switch-lm"
BY_TASK = "switch-task"
WHOLE = {GLOBAL: "global", ON_REWARD: "practised", LM: "lm"}
"""Methods that switch on all tasks by one trained switcher: its folder in `switchers/`."""


@dataclass(frozen=True, slots=True)
class TrainedSwitchers:
    """A switcher for each task; often the same."""

    by_task: Mapping[str, SwitcherConfig]

    def models(self) -> list[Candidate]:
        """The models that an engine must have, each once, by their names in it."""
        models = {
            _model(config): Candidate(_model(config), config.spec, config.endpoint)
            for config in self.by_task.values()
            if config.spec is not None
        }
        return list(models.values())

    def switchers(self) -> dict[str, Switcher]:
        """One object for every different switcher, by task."""
        made = {_model(c): make_switcher(c, _model(c)) for c in self.by_task.values()}
        return {task: made[_model(config)] for task, config in self.by_task.items()}


def parse_switcher(text: str) -> tuple[str, Path]:
    """`NAME=DIR` as a method and its folder. Raises UsageError."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"a switcher is written NAME=DIR, not {text!r}")
    return name, Path(folder)


def own(team: TeamConfig, tasks: Sequence[str]) -> TrainedSwitchers:
    """The team's own switcher."""
    return TrainedSwitchers(dict.fromkeys(tasks, team.switcher))


def beside(team: TeamConfig, tasks: Sequence[str]) -> dict[str, TrainedSwitchers]:
    """The switchers in `switchers/` beside a team file, as a pocket build writes them, that are
    not the team's own switcher: those for all tasks, and one a task."""
    if team.source is None:
        return {}
    home = Path(team.source).parent / "switchers"
    switchers = {
        name: find(home / folder, tasks)
        for name, folder in WHOLE.items()
        if _is_switcher(home / folder)
    }
    if any(_is_switcher(home / task) for task in tasks) and not _without(home, tasks):
        switchers[BY_TASK] = find(home, tasks)
    return {name: switcher for name, switcher in switchers.items() if switcher != own(team, tasks)}


def find(folder: Path, tasks: Sequence[str]) -> TrainedSwitchers:
    """What `taketurns train` wrote to `folder`, or to a folder in it for each task by its name; the
    one in `global` stands in for tasks that have none.

    Raises UsageError where there is none, ConfigError for one that cannot be read.
    """
    if _is_switcher(folder):
        return TrainedSwitchers(dict.fromkeys(tasks, _read(folder)))
    if missing := _without(folder, tasks):
        where = folder / missing[0] if len(missing) < len(tasks) else folder
        raise UsageError(
            f"there is no switcher at {where}: train it with taketurns train --output {where}"
        )
    return TrainedSwitchers(
        {
            task: _read(folder / (task if _is_switcher(folder / task) else WHOLE[GLOBAL]))
            for task in tasks
        }
    )


def _without(folder: Path, tasks: Sequence[str]) -> list[str]:
    """The tasks that a folder with switchers by task has none for."""
    if _is_switcher(folder / WHOLE[GLOBAL]):
        return []
    return [task for task in tasks if not _is_switcher(folder / task)]


def _is_switcher(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("team.yaml", head.CONFIG, "config.json"))


def _read(folder: Path) -> SwitcherConfig:
    if (folder / "team.yaml").is_file():
        return load_team_config(folder).switcher
    if (folder / head.CONFIG).is_file():
        return SwitcherConfig(kind="head", path=str(folder))
    return SwitcherConfig(kind="lm", spec=ModelSpec(str(folder)))


def _model(config: SwitcherConfig) -> str:
    """A switcher's name in an engine: equal for equal switchers."""
    what = (config.spec or config.path or config.kind, config.chat_template, *config.candidates)
    return f"(switcher {' '.join(map(str, what))})"
