"""Packages that provide tasks, by name.

Only this module knows the module of the bundled world's tasks, so the general code does not import
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from taketurns.tasks.base import Task

MODULES: Mapping[str, str] = MappingProxyType({"pocket": "taketurns.pocket.tasks"})


class TaskProvider(Protocol):
    """A module with tasks about worlds of one kind; each world is made from a seed."""

    @property
    def TASKS(self) -> Mapping[str, Task]:
        """The tasks of the world of seed 0, by name."""
        ...

    def tasks_named(self, names: Sequence[str] | None = None, seed: int = 0) -> Sequence[Task]:
        """Tasks of the world of this seed (default: all). Raises UsageError for an unknown task."""
        ...


def provider(name: str = "pocket") -> TaskProvider:
    """The module of a provider, imported at the first call."""
    return cast(TaskProvider, import_module(MODULES[name]))
