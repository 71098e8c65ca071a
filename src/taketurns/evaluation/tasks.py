"""Load the tasks of an evaluation by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taketurns.errors import UsageError
from taketurns.tasks.base import Task


def load(names: Sequence[str], data: Path | None = None, world: int = 0) -> dict[str, Task]:
    """The tasks of these names, in their order. `data` is the folder of the paper's benchmarks in
    the authors' format, `world` the seed of the pocket world.

    Raises UsageError for an unknown task and for two tasks with the same name, DataError for data
    that cannot be used.
    """
    from taketurns.tasks.registry import Choices, find_tasks

    tasks: dict[str, Task] = {}
    for task in find_tasks(names, Choices(data, world=world)):
        if task.name in tasks:
            raise UsageError(
                f"two tasks are called {task.name!r}: change the key 'name' in one of the task "
                "files, or name only one of them with --task"
            )
        tasks[task.name] = task
    return tasks
