"""Bounded memory: answers wait, first come first served, until the memory that they may need is
free.

A caller that wants another order asks `fits` first and opens an answer when there is room.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from taketurns.errors import CapacityError


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    need: int
    loop: asyncio.AbstractEventLoop
    granted: asyncio.Future[None]


class Admission:
    """Gives out parts of a budget of bytes. Several event loops may use it at the same time."""

    def __init__(self, budget: Callable[[], int]) -> None:
        self._ask_budget = budget
        self._budget: int | None = None
        self._used = 0
        self._waiting: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    @property
    def budget(self) -> int:
        """The bytes to give out; determined at first use, when the weights are loaded."""
        if self._budget is None:
            self._budget = self._ask_budget()
        return self._budget

    @property
    def used(self) -> int:
        return self._used

    def fits(self, needs: Sequence[int]) -> bool:
        """Whether all of these would be admitted without waiting. Raises CapacityError if one of
        them never will."""
        for need in needs:
            self._check(need)
        with self._lock:
            return not self._waiting and self._used + sum(needs) <= self.budget

    @asynccontextmanager
    async def admit(self, need: int) -> AsyncIterator[None]:
        """Hold `need` bytes; waits until they are free. Raises CapacityError if the budget is
        smaller."""
        self._check(need)
        await self._acquire(need)
        try:
            yield
        finally:
            self._release(need)

    @asynccontextmanager
    async def add(self, need: int) -> AsyncIterator[None]:
        """Hold `need` bytes without waiting, above the budget if necessary: for a fork, because its
        parent may be waiting for it. The caller limits the number of forks."""
        with self._lock:
            self._used += need
        try:
            yield
        finally:
            self._release(need)

    def _check(self, need: int) -> None:
        if need > self.budget:
            raise CapacityError(
                f"an answer may need {need / 2**20:.0f} MiB of keys and values, but the limit is "
                f"{self.budget / 2**20:.0f} MiB: lower max_tokens or raise engine.memory"
            )

    async def _acquire(self, need: int) -> None:
        with self._lock:
            if not self._waiting and self._used + need <= self.budget:
                self._used += need
                return
            loop = asyncio.get_running_loop()
            waiter = _Waiter(need, loop, loop.create_future())
            self._waiting.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            with self._lock:
                waits = waiter in self._waiting
                if waits:
                    self._waiting.remove(waiter)
                    self._admit_waiting()  # others may have waited behind it
            if not waits:  # it was granted at the same moment
                self._release(need)
            raise

    def _release(self, need: int) -> None:
        with self._lock:
            self._used -= need
            self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Admit waiting answers that fit now. Call it with the lock held, when memory was freed."""
        while self._waiting and self._used + self._waiting[0].need <= self.budget:
            waiter = self._waiting.popleft()
            self._used += waiter.need
            waiter.loop.call_soon_threadsafe(_grant, waiter.granted)


def _grant(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
