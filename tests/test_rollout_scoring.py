"""A scorer may be anybody's: whatever it does, an end has a utility within 0..1 or a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from taketurns.errors import DataError
from taketurns.tasks.base import Split
from taketurns.training.labels.rollout_scoring import RolloutResult, score_rollouts
from taketurns.types import Query, Score

QUERY = Query("q", text="?")


@dataclass(frozen=True)
class Scored:
    by: Callable[..., Any]
    name: str = "scored"
    category: str = "test"

    def queries(self, split: Split) -> tuple[Query, ...]:
        return (QUERY,)

    def score(self, query: Query, answer: str) -> Score:
        return self.by(answer)


class Batched(Scored):
    def score_many(self, answers: Sequence[tuple[Query, str]]) -> Sequence[Score]:
        return self.by([text for _, text in answers])

    def score(self, query: Query, answer: str) -> Score:
        return self.by([answer])[0]


class Grouped(Scored):
    def score_group(self, query: Query, answers: Sequence[str]) -> Sequence[Score]:
        return self.by(answers)


def test_what_is_settled_is_not_scored_again() -> None:
    asked: list[str] = []

    def score(answer: str) -> Score:
        asked.append(answer)
        return Score(1.0)

    ends = [
        RolloutResult(0, "old", 1, 0.5),
        RolloutResult(0, "bad", 1, None, "why"),
        RolloutResult(1, None, 0, None, "gone"),
    ]
    assert score_rollouts(Scored(score), QUERY, [*ends, RolloutResult(1, "new", 3)]) == [
        *ends,
        RolloutResult(1, "new", 3, 1.0),
    ]
    assert asked == ["new"]


def test_a_batch_is_scored_at_once_and_one_by_one_only_if_that_fails() -> None:
    calls: list[list[str]] = []

    def score(answers: list[str]) -> list[Score]:
        calls.append(answers)
        if "broken" in answers:
            raise LookupError("no reference")
        return [Score(1.0) for _ in answers]

    ends = [
        RolloutResult(0, "a", 1),
        RolloutResult(0, "old", 1, 0.5),
        RolloutResult(1, "b", 1),
        RolloutResult(1, None, 0, None, "gone"),
    ]
    assert [e.utility for e in score_rollouts(Batched(score), QUERY, ends)] == [1.0, 0.5, 1.0, None]
    assert calls == [["a", "b"]]
    first, broken = score_rollouts(
        Batched(score), QUERY, [RolloutResult(0, "a", 1), RolloutResult(1, "broken", 1)]
    )
    assert first.utility == 1
    assert broken.why == "the scorer failed: LookupError: no reference"


def test_a_group_is_scored_anew_without_what_could_not_be_written() -> None:
    def score(answers: Sequence[str]) -> list[Score]:
        return [Score(1 / len(answers)) for _ in answers]

    ends = [
        RolloutResult(0, "a", 1, 1.0),
        RolloutResult(1, None, 0, None, "gone"),
        RolloutResult(1, "b", 2),
    ]
    assert [end.utility for end in score_rollouts(Grouped(score), QUERY, ends)] == [0.5, None, 0.5]


@pytest.mark.parametrize("kind", [Scored, Grouped])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no value"),
        (-0.1, "the scorer gave -0.1, which is not within 0..1"),
        (float("inf"), "the scorer gave inf, which is not within 0..1"),
    ],
)
def test_only_numbers_within_0_and_1_are_utilities(kind: Any, value: Any, why: str) -> None:
    score = Score(value, why="no value")
    (end,) = score_rollouts(
        kind(lambda given: [score] if kind is Grouped else score), QUERY, [RolloutResult(0, "a")]
    )
    assert (end.utility, end.why) == (None, why)


@pytest.mark.parametrize("kind", [Scored, Grouped])
def test_what_a_scorer_raises_is_its_answers_failure(kind: Any) -> None:
    def broken(given: Any) -> Any:
        raise LookupError("no reference")

    ends = [RolloutResult(0, "a", 4), RolloutResult(0, None, 0, None, "gone")]
    first, second = score_rollouts(kind(broken), QUERY, ends)
    assert (first.utility, first.why) == (None, "the scorer failed: LookupError: no reference")
    assert (first.tokens, second.why) == (4, "gone")


def test_a_score_an_answer() -> None:
    with pytest.raises(DataError, match="task 'scored' gave 1 scores for 2 answers to 'q'"):
        score_rollouts(
            Grouped(lambda answers: [Score(1.0)]),
            QUERY,
            [RolloutResult(0, "a"), RolloutResult(0, "b")],
        )
