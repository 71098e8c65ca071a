"""What is asked of any task."""

from __future__ import annotations

from dataclasses import dataclass

from taketurns.pocket.tasks import TASKS
from taketurns.tasks.base import Split, canonical_answer
from taketurns.types import Query, Score


@dataclass
class Telltale:
    """Says the reference of any answer."""

    name: str = "telltale"
    category: str = "own"

    def queries(self, split: Split) -> tuple[Query, ...]:
        return ()

    def score(self, query: Query, answer: str) -> Score:
        return Score(1.0, str(query.reference))

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return str(query.reference)


def test_what_is_said_cannot_come_from_the_reference() -> None:
    assert canonical_answer(Telltale(), Query("1", text="?", reference="secret"), "x") == "None"


def test_pocket_answers_that_say_the_same_are_one() -> None:
    task = TASKS["arithmetic"]
    query = task.queries("test")[0]
    for answer in ("12 - 5 = 7. the answer is 7.", "7", "it is 7 now"):
        assert canonical_answer(task, query, answer) == "7"
    assert canonical_answer(task, query, "nobody knows") is None
