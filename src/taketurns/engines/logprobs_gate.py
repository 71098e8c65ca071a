"""Requests to vLLM that must not be in one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

Kind = Literal["plain", "top", "given"]


class LogprobsGate:
    """Keeps requests for the most probable tokens ("top") and requests for given tokens ("given")
    out of one batch of an engine or a server. vLLM's first model runner (0.32, always on a CPU)
    gives all of a batch the form of the latter, and the former get -inf. Others ("plain") pass at
    once. In turn, so that neither kind waits forever."""

    def __init__(self) -> None:
        self._kind: Kind | None = None
        self._inside = 0
        self._waiting: deque[tuple[Kind, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def passing(self, kind: Kind) -> AsyncIterator[None]:
        """A request of this kind runs within the block."""
        if kind == "plain":
            yield
            return
        if self._waiting or self._kind not in (None, kind):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((kind, future))
            try:
                await future
            except asyncio.CancelledError:
                if not future.cancelled():  # it was let in, and leaves at once
                    self._leave()
                else:
                    self._waiting = deque(w for w in self._waiting if w[1] is not future)
                    self._admit()
                raise
        else:
            self._enter(kind)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, kind: Kind) -> None:
        self._kind = kind
        self._inside += 1

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._kind = None
        self._admit()

    def _admit(self) -> None:
        """Let in those at the head of the queue that may be in one batch with those inside."""
        while self._waiting and self._kind in (None, self._waiting[0][0]):
            kind, future = self._waiting.popleft()
            if not future.done():
                self._enter(kind)
                future.set_result(None)
