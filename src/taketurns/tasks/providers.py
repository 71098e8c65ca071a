"""Packages that bring tasks of their own, found by name.

Only this module knows where the tasks of the bundled world are, so the general code imports none of
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from taketurns.tasks.base import Task

MODULES: Mapping[str, str] = MappingProxyType({"pocket": "taketurns.pocket.tasks"})


class TaskProvider(Protocol):
    """A module with tasks that ask about worlds of one kind, each made from a seed."""

    @property
    def TASKS(self) -> Mapping[str, Task]:
        """The tasks of the world of seed 0, by name."""
        ...

    def tasks_named(self, names: Sequence[str] | None = None, seed: int = 0) -> Sequence[Task]:
        """Tasks of the world of this seed, by default all. Raises UsageError for one it has not."""
        ...


def provider(name: str = "pocket") -> TaskProvider:
    """The tasks that a provider brings; imported when first asked for."""
    return cast(TaskProvider, import_module(MODULES[name]))
