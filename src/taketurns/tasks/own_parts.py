"""Tasks and scorers of the user's own, as a manifest describes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from taketurns.runs.manifest import PARTS
from taketurns.tasks.base import Task
from taketurns.tasks.scorers.base import FIRST, version_of
from taketurns.tasks.scorers.own import FunctionScorer
from taketurns.utils.parts import describe_code, is_own


def own_parts(tasks: Iterable[Task], *, by_version: bool = False) -> dict[str, Any]:
    """The input of a manifest that says which code of the user's own makes the questions and scores
    of tasks; nothing where there is none.

    `by_version`: the records are kept by the version of the scorer too, so that a raised one adds
    records and refuses none.
    """
    described = {}
    for task in tasks:
        if parts := list(map(describe_code, _of_task(task))):
            version = version_of(getattr(task, "scorer", task))
            told_apart = by_version and version != FIRST
            described[f"{task.name} version {version}" if told_apart else task.name] = parts
    return {PARTS: described} if described else {}


def _of_task(task: Task) -> Iterator[object]:
    yield from _own(task)
    if is_own(task):
        yield from _own(getattr(task, "scorer", None))


def _own(part: object) -> Iterator[object]:
    """The part, or those that a part of this package is made of."""
    if isinstance(part, FunctionScorer):
        yield from _own(part.function)
    elif isinstance(part, partial):
        yield from _own(part.func)
    elif is_own(part):
        yield part
    elif is_dataclass(part):
        for field in fields(part):
            yield from _own(getattr(part, field.name))
