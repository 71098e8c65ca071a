"""One server of a model, and how it has been doing.

A server that fails rests for a while, longer each time it fails in a row, and is asked for its
models before it gets work again; only work that it does ends the row. Requests that were under way
when it failed count as one failure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

from taketurns.engines.http.faults import RetryableError

FIRST_REST, LONGEST_REST = 0.5, 30.0  # seconds


class Replica:
    """A server at `url` that gets at most `limit` requests at a time. `first_rest` is how long it
    rests after a first failure, in seconds; times are of `clock`."""

    def __init__(
        self,
        url: str,
        limit: int,
        clock: Callable[[], float],
        first_rest: float = FIRST_REST,
    ) -> None:
        self.url = url
        self.busy = 0
        self.failures = 0
        self.out = False  # it failed, and has not been asked for its models since
        self.last_fault = ""
        self.trial: asyncio.Task[None] | None = None
        self._limit = limit
        self._clock = clock
        self._first_rest = first_rest
        self._rests_until = 0.0
        self._failed_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._jitter = Random(url)

    @property
    def well(self) -> bool:
        """It may get work, as far as we know."""
        return not self.out and self.resting <= 0

    @property
    def free(self) -> bool:
        """It may get another request now."""
        return self.well and self.busy < self._limit

    @property
    def resting(self) -> float:
        """Seconds until it is tried again."""
        return max(0.0, self._rests_until - self._clock())

    def take(self) -> None:
        """A request begins."""
        self.busy += 1

    def give_back(self) -> None:
        """A request is over."""
        self.busy -= 1
        self.wake()

    def succeeded(self) -> None:
        """It answered as it should."""
        self.failures = 0
        self.listed()

    def listed(self) -> None:
        """It lists its models as it should."""
        if self.out:
            self.out = False
            self.wake_all()

    def failed(self, fault: RetryableError, began: float) -> None:
        """It failed at a request that began then."""
        was_well = self.well
        self.last_fault = str(fault)
        if fault.busy:
            self._rest(fault.rest or self._first_rest)
        elif began >= self._failed_at:
            self._failed_at = self._clock()
            self.failures += 1
            self.out = True
            grown = self._first_rest * 2 ** min(self.failures - 1, 16)
            self._rest(max(fault.rest or 0.0, min(grown, LONGEST_REST)))
        if was_well:
            self.wake_all()

    def wait(self, future: asyncio.Future[None]) -> None:
        """Resolve `future` when a request may fit, or when something else has changed."""
        if len(self._waiting) > 64 and self._waiting[0].done():
            self._waiting = deque(one for one in self._waiting if not one.done())
        self._waiting.append(future)

    def wake(self) -> None:
        """Let one who waits look again."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def wake_all(self) -> None:
        """Let all who wait look again."""
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _rest(self, seconds: float) -> None:
        # Not all who wait may come back in the same instant.
        until = self._clock() + seconds * (1 + 0.25 * self._jitter.random())
        self._rests_until = max(self._rests_until, until)
