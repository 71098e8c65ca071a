"""Tasks by name."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.errors import UsageError
from taketurns.tasks.base import Task


def load(names: Sequence[str] | None) -> dict[str, Task]:
    """The tasks of these names, in their order; None names all pocket tasks.

    Raises UsageError for a name that there is no task of.
    """
    from taketurns.pocket import TASKS

    for name in names or ():
        if name not in TASKS:
            raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}")
    return {name: TASKS[name] for name in (TASKS if names is None else names)}
