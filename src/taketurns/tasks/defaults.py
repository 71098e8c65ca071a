"""The tasks of a command without `--task`.

The questions of the bundled pocket world have no meaning for other teams. So they are the default
only for the pocket team and for teams that were made for that world: `train` and `distill` store a
question of each learned task in `metrics.json`, a build of the pocket pipeline stores its seed in
`card.json`. For every other team `--task` is required.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.config.bundled import BUNDLED
from taketurns.config.loading import find_team_file
from taketurns.errors import UsageError
from taketurns.runs.records import SAMPLE
from taketurns.tasks.custom import EXAMPLE
from taketurns.tasks.providers import provider
from taketurns.utils.json_files import parse_json


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """The names of the tasks to ask, and the seed of the pocket `world` for pocket tasks."""

    names: tuple[str, ...]
    world: int


def choose_tasks(
    team: str,
    named: Sequence[str],
    say: Callable[[str], None],
    world: int | None = None,
) -> TaskChoice:
    """The tasks of a command on `team`, a team file, its folder or the name of a bundled team.
    `named` are the values of `--task`; `world` is the value of `--world`, which alone selects the
    pocket tasks. `say` gets a message with the tasks if none is named.

    Raises UsageError if no task is named and the team was not made for the pocket world.
    """
    every = provider("pocket").TASKS
    if named and (world is not None or not set(named) & set(every)):
        return TaskChoice(tuple(named), world or 0)
    made_for = pocket_tasks(team)
    if named:
        return TaskChoice(tuple(named), made_for.world if made_for else 0)
    if world is not None:
        made_for = TaskChoice(made_for.names if made_for else tuple(every), world)
    if made_for is None:
        raise UsageError(not_named(team))
    say(
        f"no --task is named: asking the tasks of the pocket world{_numbered(made_for.world)}, "
        f"{', '.join(made_for.names)}"
    )
    return made_for


def pocket_tasks(team: str) -> TaskChoice | None:
    """The pocket tasks that a team was made for, from the records in its folder; None for a team
    that was made for other tasks or has no such record."""
    every = provider("pocket").TASKS
    if team == BUNDLED:
        return TaskChoice(tuple(every), 0)
    folder = find_team_file(team).parent
    built = _read(folder / "card.json").get("recipe")
    if isinstance(built, Mapping) and isinstance(seed := built.get("seed"), int):
        return TaskChoice(tuple(every), seed)
    learned = _read(folder / "metrics.json").get(SAMPLE)
    if not isinstance(learned, Mapping) or not learned:
        return None
    worlds = {_world(name, query) for name, query in learned.items()}
    world = worlds.pop()
    if worlds or world is None:
        return None
    return TaskChoice(tuple(name for name in every if name in learned), world)


def not_named(team: str, more: str = "") -> str:
    """The message of a command that needs `--task`: the reason and the cure."""
    learned = _read(find_team_file(team).parent / "metrics.json").get(SAMPLE)
    knows = f", which was made for {', '.join(learned)}," if isinstance(learned, Mapping) else ""
    lines = " / ".join(EXAMPLE.strip().splitlines())
    return (
        f"name the tasks to ask {team}{knows} with --task{more}: `taketurns tasks` lists the "
        f"existing ones, and your own task is a file of five lines of YAML, {lines}"
    )


def _world(name: str, query: Any) -> int | None:
    """The seed of the world whose task of this name has this question; None for another
    question."""
    pocket = provider("pocket")
    if name not in pocket.TASKS or not isinstance(query, Mapping):
        return None
    world = (query.get("metadata") or {}).get("world", 0)
    (task,) = pocket.tasks_named([name], world)
    texts = {asked.id: asked.text for asked in task.queries("train")}
    return world if query.get("text") == texts.get(str(query.get("id"))) is not None else None


def _numbered(world: int) -> str:
    return f" of seed {world}" if world else ""


def _read(path: Path) -> Mapping[str, Any]:
    try:
        record = parse_json(path.read_text(encoding="utf-8"), strict=False)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
