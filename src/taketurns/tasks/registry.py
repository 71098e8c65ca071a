"""Every task by name: the pocket tasks, the paper's benchmarks, and a user's task files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import isclass
from pathlib import Path
from typing import Any, Literal, cast

from taketurns.errors import UsageError
from taketurns.tasks.base import Task
from taketurns.tasks.benchmarks import BENCHMARKS, Benchmark
from taketurns.tasks.custom import load_task_file
from taketurns.tasks.providers import provider
from taketurns.tasks.scored import Unscored
from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.utils.parts import load_part, make_part, names_part, require_methods

Scoring = Literal["ours", "moco"]


@dataclass(frozen=True)
class Choices:
    """How tasks are loaded: the path of their `data`, `settings` of their scorer, whose `scoring`
    is used, whether they are `scored` at all, and the seed of the pocket `world`."""

    data: Path | None = None
    settings: Mapping[str, Any] | None = None
    scoring: Scoring = "ours"
    scored: bool = True
    world: int = 0


def find_task(name: str, choices: Choices | None = None) -> Task:
    """A task by its name or task file. Raises UsageError for an unknown task, DataError for data
    that cannot be used."""
    choices = choices or Choices()
    if name in BENCHMARKS:
        if choices.data is not None and not choices.data.exists():
            raise UsageError(f"--data: there is no file or folder {choices.data}: correct the path")
        benchmark = BENCHMARKS[name]
        return benchmark.load(choices.data, _scorer(benchmark, choices))
    pocket = provider("pocket")
    a_file = name.endswith((".yaml", ".yml"))
    if name not in pocket.TASKS and not a_file and names_part("tasks", name):
        return _own_task(name)
    if name not in pocket.TASKS and not a_file:
        near = get_close_matches(name, [*BENCHMARKS, *pocket.TASKS], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"there is no task {name!r}; the tasks are {', '.join(pocket.TASKS)}, the paper's "
            f"{', '.join(BENCHMARKS)}, and files of your own, which end in .yaml{hint}"
        )
    if choices.scoring == "moco":
        raise UsageError(
            f"the authors' scoring is only for the paper's benchmarks, and {name!r} is not one of "
            "them: leave out --scoring moco"
        )
    if choices.data is not None:
        raise UsageError(
            f"task {name!r} has its own data, and --data is only for the paper's benchmarks: leave "
            "it out"
        )
    if name not in pocket.TASKS:
        return load_task_file(Path(name), choices.settings, scored=choices.scored)
    if choices.settings:
        raise UsageError(
            f"the scorer of the pocket task {name!r} has no settings: leave out --with"
        )
    return pocket.tasks_named([name], choices.world)[0]


def _own_task(name: str) -> Task:
    """A user's task: the object of this name, or the result of calling it."""
    part = load_part("tasks", name)
    task = part if callable(getattr(part, "queries", None)) and not isclass(part) else None
    if task is None:
        task = make_part("tasks", name, {})
    require_methods(f"the task {name!r}", task, ("queries", "score"))
    for key in ("name", "category"):
        if not isinstance(getattr(task, key, None), str):
            raise UsageError(f"the task {name!r} needs the attribute {key}, a text")
    return cast(Task, task)


def built_in_task(name: str) -> Task | None:
    """A task whose questions are part of the package, by name; None if there is none."""
    task: Task | None = provider("pocket").TASKS.get(name)
    return task


def find_tasks(names: Sequence[str], choices: Choices | None = None) -> list[Task]:
    """Tasks by name, each once (`tasks/defaults.py` has the default). If one of them is a benchmark
    of the paper, the data are for the benchmarks, and other tasks may stand beside them."""
    choices = choices or Choices()
    others = replace(choices, data=None) if any(map(BENCHMARKS.__contains__, names)) else choices
    return [
        find_task(name, choices if name in BENCHMARKS else others) for name in dict.fromkeys(names)
    ]


def _scorer(benchmark: Benchmark, choices: Choices) -> Scorer:
    if not choices.scored:
        return Unscored(benchmark.name)
    if choices.scoring == "moco":
        return benchmark.moco()
    return make_scorer(benchmark.scorer, choices.settings)


def listing() -> list[dict[str, str]]:
    """All tasks, for people and scripts: name, description, category, scorer and source of data."""
    pocket = [
        {
            "task": task.name,
            "about": "the pocket world",
            "category": task.category,
            "scorer": "its own",
            "data": "built in",
        }
        for task in provider("pocket").TASKS.values()
    ]
    return pocket + [
        {
            "task": benchmark.name,
            "about": benchmark.about,
            "category": benchmark.category,
            "scorer": benchmark.scorer,
            "data": _data(benchmark),
        }
        for benchmark in BENCHMARKS.values()
    ]


def _data(benchmark: Benchmark) -> str:
    if benchmark.source is None:
        return "--data (the authors' file)"
    return benchmark.source.path + ("" if benchmark.source.verified else " (unverified)")
