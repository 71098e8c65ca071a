"""One server and its health: a circuit breaker.

A failure opens the breaker: the server gets no requests during a cooldown, which grows with each
consecutive failure. After the cooldown the server is asked for its models; if it lists them, it
gets requests again. Only an answered request resets the count of failures. All requests that were
running when the server failed count as one failure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from taketurns.engines.http.faults import RetryableError
from taketurns.engines.logprobs_gate import LogprobsGate

FIRST_COOLDOWN, LONGEST_COOLDOWN = 0.5, 30.0  # seconds


@dataclass(eq=False)
class Replica:
    """A server at `url` that gets at most `limit` concurrent requests. `first_cooldown` is the
    cooldown in seconds after a first failure; `clock` gives the time. Its models share the `gate`,
    because a server may run their requests in one batch."""

    url: str
    limit: int
    clock: Callable[[], float]
    first_cooldown: float = FIRST_COOLDOWN
    busy: int = 0
    failures: int = 0
    open: bool = False  # it failed, and has not listed its models since
    last_fault: str = ""
    trial: asyncio.Task[None] | None = None
    gate: LogprobsGate = field(default_factory=LogprobsGate)

    def __post_init__(self) -> None:
        self._cooldown_until = 0.0
        self._failed_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._jitter = Random(self.url)

    @property
    def healthy(self) -> bool:
        """Whether it may get requests."""
        return not self.open and self.cooldown <= 0

    @property
    def free(self) -> bool:
        """Whether it may get another request now."""
        return self.healthy and self.busy < self.limit

    @property
    def cooldown(self) -> float:
        """The seconds until it is asked again."""
        return max(0.0, self._cooldown_until - self.clock())

    def take(self) -> None:
        """Count a request that begins."""
        self.busy += 1

    def give_back(self) -> None:
        """Count a request that has ended."""
        self.busy -= 1
        self.wake()

    def succeeded(self) -> None:
        """Record that it answered a request."""
        self.failures = 0
        self.listed()

    def listed(self) -> None:
        """Record that it listed its models."""
        if self.open:
            self.open = False
            self.wake_all()

    def failed(self, fault: RetryableError, began: float) -> None:
        """Record that it failed at a request that started at `began`."""
        was_healthy = self.healthy
        self.last_fault = str(fault)
        if fault.busy:
            self._cool_down(fault.retry_after or self.first_cooldown)
        elif began >= self._failed_at:
            self._failed_at = self.clock()
            self.failures += 1
            self.open = True
            grown = self.first_cooldown * 2 ** min(self.failures - 1, 16)
            self._cool_down(max(fault.retry_after or 0.0, min(grown, LONGEST_COOLDOWN)))
        if was_healthy:
            self.wake_all()

    def wait(self, future: asyncio.Future[None]) -> None:
        """Resolve `future` when a request may fit or the state has changed."""
        if len(self._waiting) > 64 and self._waiting[0].done():
            self._waiting = deque(waiter for waiter in self._waiting if not waiter.done())
        self._waiting.append(future)

    def wake(self) -> None:
        """Let one waiting request check again."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def wake_all(self) -> None:
        """Let all waiting requests check again."""
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _cool_down(self, seconds: float) -> None:
        # Random, so that waiting requests do not all return at the same moment.
        until = self.clock() + seconds * (1 + 0.25 * self._jitter.random())
        self._cooldown_until = max(self._cooldown_until, until)
