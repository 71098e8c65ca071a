"""Which prefixes are labelled: every task alike, and no question that is asked elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from taketurns.errors import DataError
from taketurns.pocket import TASKS, World, tasks
from taketurns.tasks.base import Split
from taketurns.training.labels.decision_points import decision_points, training_queries
from taketurns.types import Message, Query, Score


@dataclass(frozen=True)
class Asks:
    name: str = "t"
    category: str = "test"
    by: dict[str, list[Query]] = field(default_factory=dict)

    def queries(self, split: Split) -> tuple[Query, ...]:
        return tuple(self.by.get(split, ()))

    def score(self, query: Query, answer: str) -> Score:
        return Score(0.0)


def asks(name: str = "t", **questions: list[str]) -> Asks:
    by = {
        split: [Query(f"{name}/{split}/{i}", text=text) for i, text in enumerate(texts)]
        for split, texts in questions.items()
    }
    return Asks(name, by=by)


def test_every_task_gets_its_share_and_every_query_its_turn() -> None:
    planned = decision_points(
        [asks("a", train=["1", "2"]), asks("b", train=["3", "4", "5"])], 8, "random", 0
    )
    assert [one.id for one in planned] == [
        "a/train/0#0", "b/train/0#0", "a/train/1#0", "b/train/1#0",
        "a/train/0#1", "b/train/2#0", "a/train/1#1", "b/train/0#1",
    ]  # fmt: skip


def test_more_prefixes_begin_with_the_same_ones() -> None:
    every = list(TASKS.values())
    few, many = decision_points(every, 50, "mixed", 3), decision_points(every, 500, "mixed", 3)
    assert many[:50] == few
    assert len({one.id for one in many}) == 500


def test_mixed_traces_are_drawn_for_each_prefix() -> None:
    every = list(TASKS.values())
    traces = Counter(one.traces for one in decision_points(every, 1000, "mixed", 0))
    assert 400 < traces["random"] < 600
    assert {one.traces for one in decision_points(every, 9, "on-policy", 0)} == {"on-policy"}
    one, other = (decision_points(every, 99, "mixed", seed) for seed in (0, 1))
    assert [o.traces for o in one] != [o.traces for o in other]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            asks(train=["what?", "why?", "What? "]),
            "'t/train/2' asks the same question as 't/train/0'",
        ),
        (asks(train=["what?"], dev=["WHAT?"]), "'t/train/0' asks the same question as 't/dev/0'"),
        (
            asks(train=["what?"], test=["how?", "what\n?", "what?"]),
            "asks the same question as 't/test/2'",
        ),
        (asks(train=[]), "task 't' has no train queries"),
    ],
)
def test_leaks_and_repetitions_are_refused(task: Asks, said: str) -> None:
    """Fault: the training set was also the evaluation set."""
    with pytest.raises(DataError, match=said):
        decision_points([task], 1, "random", 0)


def test_a_leak_into_another_task_is_refused() -> None:
    with pytest.raises(DataError, match="'a/train/0' asks the same question as 'b/test/0'"):
        training_queries([asks("a", train=["x"]), asks("b", train=["y"], test=["x"])])
    both = training_queries([asks("a", train=["x"]), asks("b", train=["x"])])
    assert set(both) == {"a", "b"}


def test_ids_are_unique_over_all_tasks() -> None:
    with pytest.raises(DataError, match="two train queries have the id 't/train/0'"):
        training_queries([asks("t", train=["x"]), asks("t", train=["y"])])


def test_conversations_are_compared_whole() -> None:
    first = Query("1", messages=(Message("user", "a"), Message("assistant", "b")))
    second = Query("2", messages=(Message("user", "a"), Message("user", "b")))
    assert training_queries([Asks(by={"train": [first, second]})])


@pytest.mark.parametrize("seed", [0, 5])
def test_the_pocket_tasks_may_be_learned_from(seed: int) -> None:
    found = training_queries(list(tasks(World(seed)).values()))
    assert {len(queries) for queries in found.values()} == {200}
    forms = Counter(q.metadata["form"] for q in found["unknown"])
    assert 0.4 < forms["unknown"] / 200 < 0.6
