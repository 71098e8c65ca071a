"""Tasks by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taketurns.errors import UsageError
from taketurns.tasks.base import Task


def load(names: Sequence[str], data: Path | None = None, world: int = 0) -> dict[str, Task]:
    """The tasks of these names, in their order. `data` is where the paper's benchmarks lie in the
    authors' format, `world` the one that pocket tasks ask about.

    Raises UsageError for a name that there is no task of and for two tasks of one name, DataError
    for a task's data.
    """
    from taketurns.tasks.registry import Choices, find_tasks

    tasks: dict[str, Task] = {}
    for task in find_tasks(names, Choices(data, world=world)):
        if task.name in tasks:
            raise UsageError(f"two tasks are called {task.name!r}; give one another name")
        tasks[task.name] = task
    return tasks
