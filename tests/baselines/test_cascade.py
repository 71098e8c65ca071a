"""A cascade's plan is judged as every score is: tasks count the same."""

from __future__ import annotations

import pytest

from taketurns.evaluation.methods.base import DevAnswer, mean_tokens
from taketurns.evaluation.methods.cascade import _dev_score
from taketurns.types import Query


def test_a_plan_is_worth_its_mean_over_tasks() -> None:
    """Fault: with two questions of one task and eight of another, what is best on the larger one
    was taken although it is not the best over tasks."""
    first, last = [1.0, 1.0] + [0.0] * 8, [0.0, 0.0] + [0.5] * 8
    sure, unsure = [[0.9] * 10] * 2, [[0.1] * 10] * 2
    assert _dev_score((0, 1), 0.5, sure, [first, last], [2, 8]) == pytest.approx(0.5)
    assert _dev_score((0, 1), 0.5, unsure, [first, last], [2, 8]) == pytest.approx(0.25)


def test_tokens_are_a_mean_over_tasks_too() -> None:
    def answers(tokens: int, count: int) -> list[DevAnswer]:
        return [DevAnswer(Query("q", text="?"), "", 0.0, tokens)] * count

    assert mean_tokens({"few": answers(100, 2), "many": answers(10, 8)}) == 55
