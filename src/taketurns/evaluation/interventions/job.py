"""The settings of experiments on a team, and the folder of their records.

`experiments/` in the analysis folder has one file of records for each experiment, with a manifest
beside it: the same command continues a stopped run, and more questions can be asked later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError, UsageError
from taketurns.evaluation.store import records
from taketurns.runs.description import describe_run
from taketurns.runs.output import failed, open_run
from taketurns.runs.records import Record
from taketurns.runs.runner import Failures, run
from taketurns.tasks.base import Split, Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training.labels.decision_points import DecisionPoint, Traces
from taketurns.utils.files import make_folder

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class InterventionJob:
    """For each task: answers to the first `limit` questions under each condition, `trials` of
    forced sequences, and `prefixes` decisions with `k` rollouts per branch. Heads are retrained on
    `labels` (None: not at all). `rollouts` is a file of existing rollouts for the decisions.
    `replaced` are changes NAME=MODEL to the pool."""

    tasks: Sequence[Task]
    split: Split = "test"
    limit: int = 60
    trials: int = 120
    prefixes: int = 25
    k: int = 16
    traces: Traces = "on-policy"
    labels: Path | None = None
    rollouts: Path | None = None
    replaced: Sequence[str] = ()
    concurrency: int = 96

    def decision_points(self, count: int) -> list[DecisionPoint]:
        """`count` decision points per task, the tasks in turn; a larger count begins with the same
        ones. A question gets a second one when all questions of its task have one. Raises
        UsageError for a task without questions, DataError for two questions with the same id."""
        asked = {task.name: task.queries(self.split) for task in self.tasks}
        for name, queries in asked.items():
            if not queries:
                raise UsageError(
                    f"task {name!r} has no {self.split} questions: name another task, or another "
                    "split with --split"
                )
        ids = [query.id for queries in asked.values() for query in queries]
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            raise DataError(
                f"two {self.split} questions have the id {twice!r} (tasks: {', '.join(asked)}): "
                "give one of them another id"
            )
        return [
            DecisionPoint(
                task,
                asked[task.name][turn % len(asked[task.name])],
                turn // len(asked[task.name]),
                self.traces,
            )
            for turn in range(count)
            for task in self.tasks
        ]


class InterventionFolder:
    """The folder `path` with the records of experiments on tasks; `failures` are the records that
    failed so far."""

    def __init__(self, path: Path, tasks: Sequence[Task], concurrency: int) -> None:
        self.failures = Failures()
        self._parts = own_parts(tasks)
        self._path = path
        self._concurrency = concurrency
        make_folder(path)

    async def fill(
        self,
        name: str,
        label: str,
        team: TeamConfig,
        items: Sequence[ItemT],
        work: Callable[[ItemT], Awaitable[Record]],
        *,
        key: Callable[[ItemT], str] = attrgetter("id"),
        concurrency: int | None = None,
        **inputs: Any,
    ) -> Mapping[str, Mapping[str, Any]]:
        """Make the records of `items` that `NAME.jsonl` does not have; return those of all items by
        id, without failures. Progress is shown under `label`; `inputs` are further settings that
        decide the records. Raises DataError if the file belongs to another run."""
        path = self._path / f"{name}.jsonl"
        manifest = describe_run("experiment", team, b"").with_inputs(**inputs, **self._parts)
        with open_run(path, manifest) as output:
            self.failures += await run(
                items,
                work,
                output,
                key=key,
                concurrency=concurrency or self._concurrency,
                label=label,
            )
        kept = {record["id"]: record for record in records(path) if not failed(record)}
        return {key(item): kept[key(item)] for item in items if key(item) in kept}
