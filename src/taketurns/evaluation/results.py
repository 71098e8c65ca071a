"""From the answers in an evaluation's folder to scores and costs by method.

A failed answer and one that its scorer gave no value count as wrong, and are counted apart.
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
    """What an answer took on average over tasks, each counting the same: tokens read and written,
    forward passes of a single row, and this machine's seconds."""

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
    """A method's scores and cost. `missing` answers failed, `unscored` ones got no score. `work` is
    a digest of all that it wrote and read, `file` where in the evaluation's folder its answers
    are; None for a method that is read off others' answers."""

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
        """The mean a task."""
        return {
            task: sum(map(sum, answers)) / sum(map(len, answers))
            for task, answers in self.values.items()
        }

    @property
    def average(self) -> float:
        """Over tasks, each counting the same."""
        return sum(self.scores.values()) / len(self.scores)


def read_results(
    store: Store,
    entries: Sequence[MethodEntry],
    tasks: Mapping[str, Task],
    items: Sequence[AnswerRequest],
    chose_by: Mapping[str, str | None],
) -> dict[str, MethodResult]:
    """Every method's answers to these items, by its name; `chose_by` are digests of the dev
    questions that methods chose by."""
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
    """Of the answers on each task; a task whose answers all failed has no cost."""
    by_task = [[fmean(column) for column in zip(*costs, strict=True)] for costs in spent if costs]
    return Cost(*(map(fmean, zip(*by_task, strict=True)) if by_task else (0.0,) * 4))


def _digest(work: Mapping[str, Any]) -> str:
    return sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _oracle(entry: MethodEntry, singles: Sequence[MethodResult]) -> MethodResult:
    """The best checkpoint of each question under each seed, known only afterwards. It costs what
    all of them cost."""
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
