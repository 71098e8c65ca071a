"""Trained switchers on disk: one for all tasks, or one per task."""

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
"""Methods with one trained switcher for all tasks, and its folder in `switchers/`."""


@dataclass(frozen=True, slots=True)
class TrainedSwitchers:
    """The switcher of each task; often the same one."""

    by_task: Mapping[str, SwitcherConfig]

    def models(self) -> list[Candidate]:
        """The models that the engine must run, each once, by their names in the engine."""
        models = {
            _model(config): Candidate(_model(config), config.spec, config.endpoint)
            for config in self.by_task.values()
            if config.spec is not None
        }
        return list(models.values())

    def switchers(self) -> dict[str, Switcher]:
        """Switchers by task; equal configurations share one object."""
        made = {_model(c): make_switcher(c, _model(c)) for c in self.by_task.values()}
        return {task: made[_model(config)] for task, config in self.by_task.items()}


def parse_switcher(text: str) -> tuple[str, Path]:
    """`NAME=DIR` as a method and its folder. Raises UsageError."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--switcher takes NAME=DIR, as in lm=runs/lm, not {text!r}")
    return name, Path(folder)


def own(team: TeamConfig, tasks: Sequence[str]) -> TrainedSwitchers:
    """The team's own switcher, for all tasks."""
    return TrainedSwitchers(dict.fromkeys(tasks, team.switcher))


def beside(team: TeamConfig, tasks: Sequence[str]) -> dict[str, TrainedSwitchers]:
    """The switchers in `switchers/` next to a team file, as a pocket build writes them, without the
    team's own one: those for all tasks, and those with one per task."""
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
    """The switcher that `taketurns train` wrote to `folder`, or those in its subfolders, which have
    the tasks' names; a task without its own uses the one in `global`.

    Raises UsageError if there is no switcher, ConfigError for one that cannot be read.
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
    """The tasks for which the folder has no switcher."""
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
    """A switcher's name in an engine; equal switchers have equal names."""
    what = (config.spec or config.path or config.kind, config.chat_template, *config.candidates)
    return f"(switcher {' '.join(map(str, what))})"
