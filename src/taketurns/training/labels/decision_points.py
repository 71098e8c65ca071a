"""Which decisions are labelled: queries of the train split, one task after the other in turn.

A longer list of decision points begins with the shorter one, so a run can be extended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from taketurns.errors import DataError
from taketurns.tasks.base import Split, Task
from taketurns.types import Query
from taketurns.utils.seeds import derive

Traces = Literal["random", "on-policy"]
CutAt = Literal["boundary", "anywhere", "comparison"]


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """A decision to label: the query, and the number of the prefix that is drawn for it. `traces`
    is the switcher that writes the prefix and its continuations, `cut_at` whether the prefix ends
    at a patch boundary, at any token, or where the switcher compares patches."""

    task: Task
    query: Query
    number: int
    traces: Traces = "random"
    cut_at: CutAt = "boundary"

    @property
    def id(self) -> str:
        return f"{self.query.id}#{self.number}"


def decision_points(
    tasks: Sequence[Task],
    prefixes: int,
    traces: Traces | Literal["mixed"],
    seed: int,
    cut_at: CutAt = "boundary",
) -> list[DecisionPoint]:
    """`prefixes` decision points, equally many of each task. A query gets a second prefix when all
    queries of its task have one. "mixed" draws the switcher of each prefix. Raises DataError if
    train queries repeat or occur in dev or test."""
    queries = training_queries(tasks)
    return list(islice(_forever(tasks, queries, traces, seed, cut_at), prefixes))


def _forever(
    tasks: Sequence[Task],
    queries: Mapping[str, Sequence[Query]],
    traces: Traces | Literal["mixed"],
    seed: int,
    cut_at: CutAt,
) -> Iterator[DecisionPoint]:
    turn = 0
    while True:
        for task in tasks:
            pool = queries[task.name]
            query, number = pool[turn % len(pool)], turn // len(pool)
            drawn: Traces = (
                "random" if derive(seed, query.id, number, "traces") % 2 else "on-policy"
            )
            yield DecisionPoint(task, query, number, drawn if traces == "mixed" else traces, cut_at)
        turn += 1


def training_queries(tasks: Sequence[Task]) -> dict[str, tuple[Query, ...]]:
    """Each task's train queries.

    Raises DataError for a task without train queries, for an id that occurs twice, for a question
    that a task asks twice, and for a question that any of the tasks asks in dev or test. Questions
    are compared without regard to case and spacing.
    """
    queries = {task.name: tuple(task.queries("train")) for task in tasks}
    kept: dict[str, Query] = {}
    splits: tuple[Split, ...] = ("dev", "test")
    for task in tasks:
        kept |= {_question(query): query for split in splits for query in task.queries(split)}
    ids: set[str] = set()
    for task in tasks:
        if not queries[task.name]:
            raise DataError(
                f"task {task.name!r} has no train queries: choose another task, or add questions "
                "to its train split"
            )
        seen: dict[str, Query] = {}
        for query in queries[task.name]:
            if query.id in ids:
                raise DataError(
                    f"two train queries have the id {query.id!r}, the second one in task "
                    f"{task.name!r}: give each query its own id"
                )
            ids.add(query.id)
            question = _question(query)
            other = kept.get(question) or seen.get(question)
            if other is not None:
                raise DataError(
                    f"train query {query.id!r} asks the same question as {other.id!r}: a question "
                    "may occur only once and in only one split; remove one of the two"
                )
            seen[question] = query
    return queries


def _question(query: Query) -> str:
    messages = (f"{message.role}: {message.content}" for message in query.conversation)
    return " ".join("\n".join(messages).casefold().split())
