"""The time that all tries at one request have together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMES = 2
"""A request has so many times its engine's `timeout` in all: one try may bring nothing for as long
as a try may take, and another still has its whole time."""


class Allowance:
    """`seconds` of `clock`, of which what runs inside `spending` takes its share."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.left = seconds
        self._clock = clock

    @contextmanager
    def spending(self) -> Iterator[None]:
        """What happens inside takes from what is left, which may fall below 0."""
        began = self._clock()
        try:
            yield
        finally:
            self.left -= self._clock() - began
