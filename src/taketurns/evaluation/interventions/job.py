"""What is asked of a team, and the folder that keeps the answers.

`experiments/` in the analysis folder has one file of records for each experiment, with a manifest
beside it: the same command goes on after a stop, and more questions may be asked later.
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
    """Of every task: answers to the first `limit` questions under each condition, `trials` of
    forced sequences, `prefixes` decisions with `k` rollouts a branch. `labels` are what heads are
    retrained on (None: they are not), `rollouts` decisions that are rolled out already; `replaced`
    are changes NAME=MODEL to the pool."""

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
        """So many a task, task by task in turn, so that more begin with the same ones. A question
        gets a second when all of its task have one. Raises UsageError for a task without questions,
        DataError for two questions with one id."""
        asked = {task.name: task.queries(self.split) for task in self.tasks}
        for name, queries in asked.items():
            if not queries:
                raise UsageError(f"task {name!r} has no {self.split} questions")
        ids = [query.id for queries in asked.values() for query in queries]
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            raise DataError(f"two {self.split} questions have the id {twice!r}")
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
    """`path` for the records of experiments on tasks, each made by a team; `failures` are what
    could not be asked so far."""

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
        """Make the records of `items` that `NAME.jsonl` does not hold; those of all items, by id,
        without failures. Progress is shown under `label`; `inputs` decide the records beside the
        team. Raises DataError if the file is another run's."""
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
