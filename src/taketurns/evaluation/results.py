"""Scores and costs of each method, read from the answers in an evaluation's folder.

Answers that failed or have no score count as wrong; their numbers are reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any

from taketurns.evaluation.asking import AnswerRequest, Values, by_task
from taketurns.evaluation.methods.registry import ORACLE, Kind, MethodEntry
from taketurns.evaluation.store import Store, whole_records
from taketurns.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Cost:
    """The mean cost of an answer, each task with equal weight: tokens read and written, forward
    passes of a single row, and seconds on this machine."""

    read: float
    written: float
    passes: float
    seconds: float

    @property
    def tokens(self) -> float:
        """Tokens that went through a model."""
        return self.read + self.written

    def to_json(self) -> dict[str, float]:
        return {
            "tokens": round(self.tokens, 3),
            "read": round(self.read, 3),
            "written": round(self.written, 3),
            "passes": round(self.passes, 3),
            "seconds": round(self.seconds, 6),
        }


@dataclass(frozen=True, slots=True)
class MethodResult:
    """A method's scores and cost. `missing` answers failed, `unscored` ones have no score. `work`
    is a digest of all that it wrote and read, `file` the path of its answers in the evaluation's
    folder; both are None for a method that is computed from the answers of others."""

    name: str
    kind: Kind
    about: str
    hindsight: bool
    values: Values
    cost: Cost
    missing: int
    unscored: int
    chosen: Mapping[str, Any]
    work: str | None = None
    file: str | None = None

    @property
    def scores(self) -> dict[str, float]:
        """The mean of each task."""
        return {
            task: sum(map(sum, answers)) / sum(map(len, answers))
            for task, answers in self.values.items()
        }

    @property
    def average(self) -> float:
        """The mean over tasks, each with equal weight."""
        return sum(self.scores.values()) / len(self.scores)


def read_results(
    store: Store,
    entries: Sequence[MethodEntry],
    tasks: Mapping[str, Task],
    items: Sequence[AnswerRequest],
    chose_by: Mapping[str, str | None],
) -> dict[str, MethodResult]:
    """The result of each method on these items, by its name; `chose_by` has for each method the
    digest of the dev questions that it chose its settings on."""
    results: dict[str, MethodResult] = {}
    for entry in entries:
        if entry.make is not None:
            results[entry.name] = _read(store, entry, tasks, items, chose_by[entry.name])
    for entry in entries:
        if entry.name == ORACLE:
            results[ORACLE] = _oracle(entry, [m for m in results.values() if m.kind == "single"])
    return {entry.name: results[entry.name] for entry in entries}


def _read(
    store: Store,
    entry: MethodEntry,
    tasks: Mapping[str, Task],
    items: Sequence[AnswerRequest],
    dev: str | None,
) -> MethodResult:
    path = store.answers(entry.name, dev)
    wanted = {item.id for item in items}
    work: dict[str, tuple[Any, ...]] = {}
    kept: dict[str, float | None] = {}
    spent: dict[str, list[tuple[float, ...]]] = {task: [] for task in tasks}
    for record in whole_records(path):
        if record["id"] in wanted:
            kept[record["id"]] = record["score"]
            costs = tuple(record[key] for key in ("read", "written", "passes", "seconds"))
            spent[record["task"]].append(costs)
            work[record["id"]] = (record["text"], record["by_model"], record["passes"])
    values = by_task(items, (kept.get(item.id) or 0.0 for item in items))
    return MethodResult(
        name=entry.name,
        kind=entry.kind,
        about=entry.about,
        hindsight=entry.hindsight,
        values={task: values.get(task, []) for task in tasks},
        cost=_cost(spent.values()),
        missing=len(items) - len(kept),
        unscored=sum(score is None for score in kept.values()),
        chosen=store.chosen(entry.name, dev),
        file=str(path.relative_to(store.folder)),
        work=_digest(work) if work else None,
    )


def _cost(spent: Iterable[Sequence[tuple[float, ...]]]) -> Cost:
    """The mean cost over tasks; a task whose answers all failed does not count."""
    by_task = [[fmean(column) for column in zip(*costs, strict=True)] for costs in spent if costs]
    return Cost(*(map(fmean, zip(*by_task, strict=True)) if by_task else (0.0,) * 4))


def _digest(work: Mapping[str, Any]) -> str:
    return sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _oracle(entry: MethodEntry, singles: Sequence[MethodResult]) -> MethodResult:
    """The best checkpoint for each question and seed, which is known only afterwards. Its cost is
    the sum of theirs."""
    values: Values = {
        task: [
            [max(scores) for scores in zip(*question, strict=True)]
            for question in zip(*(single.values[task] for single in singles), strict=True)
        ]
        for task in singles[0].values
    }
    costs = [astuple(single.cost) for single in singles]
    return MethodResult(
        name=entry.name,
        kind=entry.kind,
        about=entry.about,
        hindsight=True,
        values=values,
        cost=Cost(*(sum(column) for column in zip(*costs, strict=True))),
        missing=0,
        unscored=0,
        chosen={},
    )
