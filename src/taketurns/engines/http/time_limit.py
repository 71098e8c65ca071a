"""The time limit for all attempts of one request together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMES = 2
"""All attempts of a request together have this many times the engine's `timeout`: if one attempt
times out, another still has its full time."""


class Allowance:
    """A budget of `seconds`, measured with `clock`; only time inside `spending` counts."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.left = seconds
        self._clock = clock

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Subtract the time of the block from `left`, which may become negative."""
        began = self._clock()
        try:
            yield
        finally:
            self.left -= self._clock() - began
