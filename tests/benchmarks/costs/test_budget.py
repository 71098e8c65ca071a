from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.costs.budget import Budget, interleave


class FakeClock:
    """Time that passes only when something runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def run(self, seconds: float) -> float:
        self.seconds += seconds
        return self.seconds


def test_time_that_a_unit_saves_goes_to_those_that_are_left() -> None:
    clock = FakeClock()
    budget = Budget(100, {"a": 1, "b": 1, "c": 2}, clock)
    assert budget.part("a") == 25
    clock.run(10)
    assert budget.part("b") == pytest.approx(30)
    clock.run(50)
    assert budget.part("c") == pytest.approx(40)
    clock.run(60)
    assert budget.left == pytest.approx(-20)


def test_a_unit_after_the_limit_has_no_time() -> None:
    clock = FakeClock()
    budget = Budget(10, {"a": 1, "b": 1}, clock)
    clock.run(11)
    assert budget.part("a") == 0
    assert interleave({"run": clock.run}, 5, 3, left=budget.left, now=clock) == []  # type: ignore[dict-item]


def test_the_order_rotates_and_every_round_has_everything() -> None:
    order: list[str] = []
    runs = {name: partial(order.append, name) for name in "abc"}
    rounds = interleave(runs, 1000, 3, left=1000)
    assert order == [*"abc", *"bca", *"cab"]
    assert [set(round_) for round_ in rounds] == [set("abc")] * 3


@given(
    first=st.floats(0.1, 10),
    longer=st.floats(1, 3),
    part=st.floats(0, 100),
    left=st.floats(0, 100),
    most=st.integers(1, 6),
)
def test_rounds_keep_to_their_time(
    first: float, longer: float, part: float, left: float, most: int
) -> None:
    """Only the first round may exceed the part, and only a round that is longer than all before
    may exceed it by more than nothing."""
    clock, lengths = FakeClock(), [first * longer**index for index in range(most)]
    waiting = list(lengths)
    rounds = interleave(
        {"only": lambda: clock.run(waiting.pop(0))}, part, most, left=left, now=clock
    )
    assert len(rounds) <= most
    assert bool(rounds) == (left > 0)
    if len(rounds) > 1:
        assert clock.seconds - (lengths[len(rounds) - 1] - lengths[len(rounds) - 2]) < part + 1e-6


def test_what_is_known_to_take_longer_than_the_time_left_does_not_begin() -> None:
    clock = FakeClock()
    runs = {"only": partial(clock.run, 5)}
    assert interleave(runs, 100, 2, left=20, first=21, now=clock) == []
    assert len(interleave(runs, 100, 2, left=20, first=19, now=clock)) == 2
