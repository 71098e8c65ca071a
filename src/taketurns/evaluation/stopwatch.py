"""Seconds of one answer where many are under way: each takes its share of the time that passes.

The shares of all answers add up to the time during which any was under way, so a method's seconds
are what it took of this machine at this concurrency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Literal

Clock = Literal["wall", "cpu"]
"""Time that passes, or what this process computes, on all its threads together: where it has one
thread and the machine other work, that is what it would take alone."""

CLOCKS: Mapping[Clock, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}
"""Functions that give seconds, of which only differences say something."""


class Stopwatch:
    """Runs while anything is measured. For one event loop."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._under_way = 0
        self._at = clock()
        self._each = 0.0  # seconds that an answer under way from the beginning would have

    @contextmanager
    def share(self) -> Iterator[Callable[[], float]]:
        """Measure what runs inside; what is yielded says the seconds so far."""
        self._tick()
        self._under_way += 1
        begun = self._each

        def seconds() -> float:
            self._tick()
            return self._each - begun

        try:
            yield seconds
        finally:
            self._tick()
            self._under_way -= 1

    def _tick(self) -> None:
        now = self._clock()
        if self._under_way:
            self._each += (now - self._at) / self._under_way
        self._at = now
