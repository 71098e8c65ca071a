"""Trained switchers, found on disk: one for all tasks, or one a task.

The only place that knows where the bundled ones are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from taketurns import heads
from taketurns.config import SwitcherConfig, TeamConfig, load_team_config
from taketurns.errors import UsageError
from taketurns.switchers import Switcher, make_switcher
from taketurns.types import ModelSpec

SHIPPED = {"switch-head": "head", "switch-lm": "lm", "switch-task": "tasks"}


@dataclass(frozen=True, slots=True)
class Trained:
    """A switcher for each task; often the same."""

    by_task: Mapping[str, SwitcherConfig]

    def specs(self) -> dict[str, ModelSpec]:
        """The models that an engine must have, by their names in it."""
        return {
            _model(config): config.spec
            for config in self.by_task.values()
            if config.spec is not None
        }

    def switchers(self) -> dict[str, Switcher]:
        """One object for every different switcher, by task."""
        made = {_model(c): make_switcher(c, _model(c)) for c in self.by_task.values()}
        return {task: made[_model(config)] for task, config in self.by_task.items()}


def own(team: TeamConfig, tasks: Sequence[str]) -> Trained:
    """The team's own switcher."""
    return Trained(dict.fromkeys(tasks, team.switcher))


def shipped(team: TeamConfig, tasks: Sequence[str]) -> dict[str, Trained]:
    """What is bundled for the bundled team beside its own switcher; nothing for any other."""
    home = Path(str(files("taketurns.pocket")))
    if team.source is None or Path(team.source).parent != home:
        return {}
    found = {
        name: find(home / "switchers" / folder, tasks)
        for name, folder in SHIPPED.items()
        if (home / "switchers" / folder).is_dir()
    }
    return {name: one for name, one in found.items() if one != own(team, tasks)}


def find(folder: Path, tasks: Sequence[str]) -> Trained:
    """What `taketurns train` wrote to `folder`, or to a folder in it for each task by its name.

    Raises UsageError where there is none, ConfigError for one that cannot be read.
    """
    if _is_switcher(folder):
        return Trained(dict.fromkeys(tasks, _read(folder)))
    if missing := [task for task in tasks if not _is_switcher(folder / task)]:
        where = folder / missing[0] if len(missing) < len(tasks) else folder
        raise UsageError(
            f"there is no switcher at {where}: train it with taketurns train --output {where}"
        )
    return Trained({task: _read(folder / task) for task in tasks})


def _is_switcher(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("team.yaml", heads.CONFIG, "config.json"))


def _read(folder: Path) -> SwitcherConfig:
    if (folder / "team.yaml").is_file():
        return load_team_config(folder).switcher
    if (folder / heads.CONFIG).is_file():
        return SwitcherConfig(kind="head", path=str(folder))
    return SwitcherConfig(kind="lm", spec=ModelSpec(str(folder)))


def _model(config: SwitcherConfig) -> str:
    """A switcher's name in an engine: equal for equal switchers."""
    return f"(switcher {config.spec or config.path or config.kind} {config.chat_template})"
