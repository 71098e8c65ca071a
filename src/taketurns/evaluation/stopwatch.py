"""Seconds of one answer among many at the same time: each gets an equal share of the time.

The shares of all answers add up to the time during which at least one was in progress. So a
method's seconds are the time that it took on this machine at this concurrency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Literal

Clock = Literal["wall", "cpu"]
"""Wall-clock time, or the processor time of this process over all its threads. With one thread on a
machine that does other work, processor time is about the time that it would take alone."""

CLOCKS: Mapping[Clock, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}
"""Functions that return seconds; only differences have a meaning."""


class Stopwatch:
    """Measures the shares of concurrent answers. For one event loop."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._under_way = 0
        self._at = clock()
        self._each = 0.0  # seconds of an answer in progress since the beginning

    @contextmanager
    def share(self) -> Iterator[Callable[[], float]]:
        """Measure the block inside; yields a function that returns the seconds so far."""
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
