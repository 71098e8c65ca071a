"""Who is let in, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.errors import CapacityError
from taketurns.server.admission import AdmissionGate, Ticket
from taketurns.server.errors import ApiError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admitted(tickets: list[Ticket]) -> list[bool]:
    return [ticket.admitted.is_set() for ticket in tickets]


async def test_as_many_write_as_there_is_room_for_and_as_many_wait() -> None:
    gate = AdmissionGate(running=2, waiting=2)
    first = gate.enter([100, 100])
    second = gate.enter([100, 100])
    assert admitted(first) == [True, True]
    assert admitted(second) == [False, False]
    with pytest.raises(ApiError) as caught:
        gate.enter([100])
    assert caught.value.status_code == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    first[0].close()
    first[0].close()
    assert admitted(second) == [True, False]
    assert (gate.running, gate.waiting) == (2, 1)
    assert admitted(gate.enter([100])) == [False]


async def test_a_request_is_let_in_with_all_its_choices_or_none() -> None:
    gate = AdmissionGate(running=2, waiting=1)
    with pytest.raises(ApiError):
        gate.enter([100] * 4)
    assert admitted(gate.enter([100] * 3)) == [True, True, False]


async def test_equal_requests_are_served_in_turn() -> None:
    clock = Clock()
    gate = AdmissionGate(1, 10, clock)
    (writing,) = gate.enter([100])
    waiting = []
    for _ in range(3):
        clock.now += 1
        waiting += gate.enter([100])
    for number, ticket in enumerate(waiting):
        clock.now += 1
        writing.close()
        assert admitted(waiting) == [one <= number for one in range(3)]
        writing = ticket


async def test_a_short_request_passes_long_ones_but_they_get_their_turn() -> None:
    clock = Clock()
    gate = AdmissionGate(1, 1000, clock)
    (writing,) = gate.enter([10])
    (long,) = gate.enter([4000])
    clock.now += 10
    (short,) = gate.enter([10])
    clock.now += 1
    writing.close()
    assert short.admitted.is_set()  # waited a tenth of a second a token, the long one 0.003
    # However many short ones come, the long one is not put off for ever.
    writing, passed = short, 0
    while not long.admitted.is_set():
        gate.enter([10])
        clock.now += 1
        writing.close()
        passed += 1
        assert passed < 4000
        writing = next(iter(gate._running))
    assert passed > 10


async def test_leaving_the_queue_makes_room_in_it() -> None:
    gate = AdmissionGate(1, 1)
    (writing,) = gate.enter([1])
    (waiting,) = gate.enter([1])
    waiting.close()
    (another,) = gate.enter([1])
    writing.close()
    assert another.admitted.is_set()
    assert not waiting.admitted.is_set()


async def test_a_gate_that_is_shut_lets_those_inside_finish() -> None:
    gate = AdmissionGate(1, 1)
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
        gate = AdmissionGate(room, queue, clock)
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


# Memory


class Memory:
    """An engine's: `size` tokens of room, of which open sessions hold some."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0

    def fits(self, lengths: Sequence[int]) -> bool:
        if max(lengths) > self.size:
            raise CapacityError("never")
        return self.held + sum(lengths) <= self.size

    def open(self, ticket: Ticket) -> None:
        assert ticket.admitted.is_set()
        self.held += ticket.length
        ticket.begin()

    def close(self, ticket: Ticket) -> None:
        self.held -= ticket.length
        ticket.close()


async def test_nobody_is_called_whose_session_would_have_to_wait() -> None:
    memory = Memory(100)
    gate = AdmissionGate(running=10, waiting=10, fits=memory.fits)
    first, second, third = gate.enter([20, 20, 20], [40, 40, 40])
    assert admitted([first, second, third]) == [True, True, False]  # though no session is open yet
    assert (gate.running, gate.waiting) == (2, 1)
    memory.open(first)
    memory.open(second)
    memory.close(first)
    assert third.admitted.is_set()


async def test_the_queue_is_full_when_memory_is_what_they_wait_for() -> None:
    memory = Memory(100)
    gate = AdmissionGate(running=100, waiting=2, fits=memory.fits)
    (writing,) = gate.enter([100])
    memory.open(writing)
    waiting = gate.enter([50, 50])
    with pytest.raises(ApiError) as caught:
        gate.enter([1])
    assert caught.value.status_code == 429
    assert (gate.running, gate.waiting) == (1, 2)
    memory.close(writing)
    assert admitted(waiting) == [True, True]
    with pytest.raises(ApiError):  # all its choices or none
        gate.enter([1] * 3)
    assert (gate.running, gate.waiting) == (2, 0)


async def test_what_never_fits_is_refused_at_once() -> None:
    memory = Memory(100)
    gate = AdmissionGate(running=1, waiting=5, fits=memory.fits)
    gate.enter([100])
    with pytest.raises(CapacityError):
        gate.enter([10], [101])
    assert gate.waiting == 0


def half_full(tokens: int) -> tuple[Clock, Memory, AdmissionGate, Ticket]:
    """A gate before a memory of 100, where an answer of so many tokens is being written."""
    clock, memory = Clock(), Memory(100)
    gate = AdmissionGate(running=10, waiting=10, clock=clock, fits=memory.fits)
    (writing,) = gate.enter([tokens])
    memory.open(writing)
    return clock, memory, gate, writing


async def test_a_short_request_passes_a_long_one_that_does_not_fit_yet() -> None:
    clock, _, gate, _ = half_full(90)
    (long,) = gate.enter([90])
    clock.now += 1
    (short,) = gate.enter([5])
    assert admitted([long, short]) == [False, False]
    clock.now += 1  # nobody comes or leaves: it is time that makes the short one due
    await asyncio.wait_for(short.wait(), 10)
    assert not long.admitted.is_set()


async def test_a_long_one_that_is_due_is_not_starved_by_short_ones() -> None:
    clock, memory, gate, writing = half_full(50)
    (long,) = gate.enter([60])
    clock.now += 100
    shorts = gate.enter([5] * 4)  # each of them would fit
    clock.now += 1
    shorts += gate.enter([5])
    assert admitted([long, *shorts]) == [False] * 6
    memory.close(writing)
    assert admitted([long, *shorts]) == [True] * 6


async def test_memory_that_is_given_back_unseen_is_found() -> None:
    memory = Memory(100)
    gate = AdmissionGate(running=10, waiting=10, fits=memory.fits)
    memory.held = 100  # by somebody who does not come through this gate
    (waiting,) = gate.enter([10])
    assert not waiting.admitted.is_set()
    memory.held = 0
    await asyncio.wait_for(waiting.wait(), 10)
