"""Who may write now: a bounded number of answers, a bounded queue, and fairness in it.

Of the answers that wait, the one is let in that has waited longest in proportion to the tokens it
asks for (highest response ratio next). A short request passes long ones, and a long one's turn
comes all the same. Among those that write, the engine takes turns patch by patch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from taketurns.server.errors import busy, leaving

_LONGEST_ADVICE = 60


class Ticket:
    """A place in the queue, then the right to write; give it back with `close`."""

    def __init__(self, gate: Gate, tokens: int, since: float) -> None:
        self.tokens = tokens
        self.since = since
        self.called = asyncio.Event()
        self._gate = gate

    async def wait(self) -> None:
        """Return when it is this answer's turn."""
        await self.called.wait()

    def close(self) -> None:
        """Leave; whoever is next is called. May be called twice."""
        self._gate.leave(self)


class Gate:
    """Lets `running` answers write and `waiting` more wait. `clock` counts seconds."""

    def __init__(self, running: int, waiting: int, clock: Callable[[], float] = monotonic) -> None:
        self._room = running
        self._most_waiting = waiting
        self._clock = clock
        self._running: dict[Ticket, float] = {}
        self._waiting: list[Ticket] = []
        self._seconds = 1.0  # what an answer takes, smoothed
        self._open = True

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def open(self) -> bool:
        """False once nobody is let in any more."""
        return self._open

    def enter(self, tokens: Sequence[int]) -> list[Ticket]:
        """Places for a request's answers, all or none; `tokens` is how long each may get.

        Raises ApiError: 429 when the queue is full, 503 when the server is leaving.
        """
        if not self._open:
            raise leaving()
        free = self._room - len(self._running)
        if len(self._waiting) + len(tokens) > free + self._most_waiting:
            raise busy(self._advice(len(tokens)))
        tickets = [Ticket(self, count, self._clock()) for count in tokens]
        self._waiting += tickets
        self._call()
        return tickets

    def leave(self, ticket: Ticket) -> None:
        """The answer is written, or given up."""
        begun = self._running.pop(ticket, None)
        if begun is not None:
            self._seconds += 0.1 * (self._clock() - begun - self._seconds)
            self._call()
        elif ticket in self._waiting:
            self._waiting.remove(ticket)

    def shut(self) -> None:
        """Let nobody in any more; those inside and those who wait stay."""
        self._open = False

    def _call(self) -> None:
        while self._waiting and len(self._running) < self._room:
            now = self._clock()
            due = max(self._waiting, key=lambda ticket: (now - ticket.since) / ticket.tokens)
            self._waiting.remove(due)
            self._running[due] = now
            due.called.set()

    def _advice(self, more: int) -> int:
        """Seconds after which trying again may help."""
        ahead = len(self._waiting) + more - self._most_waiting
        return min(_LONGEST_ADVICE, max(1, round(self._seconds * ahead / self._room)))
