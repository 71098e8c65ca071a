"""Who is let in, and in which order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.server.errors import ApiError
from taketurns.server.gate import Gate, Ticket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def called(tickets: list[Ticket]) -> list[bool]:
    return [ticket.called.is_set() for ticket in tickets]


async def test_as_many_write_as_there_is_room_for_and_as_many_wait() -> None:
    gate = Gate(running=2, waiting=2)
    first = gate.enter([100, 100])
    second = gate.enter([100, 100])
    assert called(first) == [True, True]
    assert called(second) == [False, False]
    with pytest.raises(ApiError) as caught:
        gate.enter([100])
    assert caught.value.status_code == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    first[0].close()
    first[0].close()
    assert called(second) == [True, False]
    assert (gate.running, gate.waiting) == (2, 1)
    assert called(gate.enter([100])) == [False]


async def test_a_request_is_let_in_with_all_its_choices_or_none() -> None:
    gate = Gate(running=2, waiting=1)
    with pytest.raises(ApiError):
        gate.enter([100] * 4)
    assert called(gate.enter([100] * 3)) == [True, True, False]


async def test_equal_requests_are_served_in_turn() -> None:
    clock = Clock()
    gate = Gate(1, 10, clock)
    (writing,) = gate.enter([100])
    waiting = []
    for _ in range(3):
        clock.now += 1
        waiting += gate.enter([100])
    for number, ticket in enumerate(waiting):
        clock.now += 1
        writing.close()
        assert called(waiting) == [one <= number for one in range(3)]
        writing = ticket


async def test_a_short_request_passes_long_ones_but_they_get_their_turn() -> None:
    clock = Clock()
    gate = Gate(1, 1000, clock)
    (writing,) = gate.enter([10])
    (long,) = gate.enter([4000])
    clock.now += 10
    (short,) = gate.enter([10])
    clock.now += 1
    writing.close()
    assert short.called.is_set()  # waited a tenth of a second a token, the long one 0.003
    # However many short ones come, the long one is not put off for ever.
    writing, passed = short, 0
    while not long.called.is_set():
        gate.enter([10])
        clock.now += 1
        writing.close()
        passed += 1
        assert passed < 4000
        writing = next(iter(gate._running))
    assert passed > 10


async def test_leaving_the_queue_makes_room_in_it() -> None:
    gate = Gate(1, 1)
    (writing,) = gate.enter([1])
    (waiting,) = gate.enter([1])
    waiting.close()
    (another,) = gate.enter([1])
    writing.close()
    assert another.called.is_set()
    assert not waiting.called.is_set()


async def test_a_gate_that_is_shut_lets_those_inside_finish() -> None:
    gate = Gate(1, 1)
    writing, waiting = gate.enter([1, 1])
    gate.shut()
    with pytest.raises(ApiError) as caught:
        gate.enter([1])
    assert caught.value.status_code == 503
    assert not gate.open
    writing.close()
    await asyncio.wait_for(waiting.wait(), 1)


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "leave"]), st.integers(1, 4096)), max_size=60),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_room_is_never_exceeded_and_never_left_empty(
    steps: list[tuple[str, int]], room: int, queue: int
) -> None:
    async def play() -> None:
        clock = Clock()
        gate = Gate(room, queue, clock)
        inside: list[Ticket] = []
        for what, number in steps:
            clock.now += 0.5
            if what == "enter":
                try:
                    inside += gate.enter([number])
                except ApiError:
                    assert len(inside) == room + queue
            elif inside:
                inside.pop(number % len(inside)).close()
            assert gate.running == min(room, len(inside))
            assert gate.running + gate.waiting == len(inside)

    asyncio.run(play())
