"""Admission: the limits for running and waiting answers, and the order of the queue.

An answer is admitted when there is a place for it and the engine has memory for it, so answers wait
only here. The next one is the answer that has waited longest in proportion to the tokens that it
asks for (highest response ratio next). A short request passes long ones, but a long one is never
passed once it is due. The engine alternates between running answers, patch by patch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from taketurns.server.errors import queue_full, shutting_down

Fits = Callable[[Sequence[int]], bool]
"""Whether the engine has memory for answers of these lengths, like `BoundedEngine.fits`."""

_MAX_RETRY_AFTER = 60  # seconds
_POLL = 0.1  # seconds


class Ticket:
    """A place in the queue, then the right to write; `close` gives it back.

    `tokens` is the limit for the answer and `length` for its session, in tokens; `since` is the
    time of arrival on the gate's clock."""

    def __init__(self, gate: AdmissionGate, tokens: int, length: int, since: float) -> None:
        self.tokens = tokens
        self.length = length
        self.since = since
        self.admitted = asyncio.Event()
        self._gate = gate

    async def wait(self) -> None:
        """Wait until the answer is admitted."""
        await self.admitted.wait()

    def begin(self) -> None:
        """Record that the session is open: from now on the engine itself counts its memory."""
        self._gate.begin(self)

    def close(self) -> None:
        """Give the place back after the session is closed. It may be called twice."""
        self._gate.leave(self)


class AdmissionGate:
    """Admits up to `running` answers that fit, and lets up to `waiting` more wait. `clock` counts
    seconds."""

    def __init__(
        self,
        running: int,
        waiting: int,
        clock: Callable[[], float] = monotonic,
        fits: Fits | None = None,
    ) -> None:
        self._max_running = running
        self._max_waiting = waiting
        self._fits: Fits = fits or (lambda lengths: True)
        self._clock = clock
        self._running: dict[Ticket, float] = {}
        self._waiting: list[Ticket] = []
        self._opening: set[Ticket] = set()  # admitted, but without a session so far
        self._recheck: asyncio.TimerHandle | None = None
        self._answer_seconds = 1.0  # the smoothed duration of an answer
        self._open = True

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def open(self) -> bool:
        """False after `shut`."""
        return self._open

    def enter(self, tokens: Sequence[int], lengths: Sequence[int] | None = None) -> list[Ticket]:
        """Places for all answers of a request. `tokens` are the answers' limits in tokens,
        `lengths` those of their sessions, prompt included; None means the same.

        Raises ApiError: 429 if the queue is full, 503 if the server is shutting down. Raises
        CapacityError for an answer that never fits.
        """
        if not self._open:
            raise shutting_down()
        lengths = tokens if lengths is None else lengths
        for length in lengths:
            self._fits([length])  # raises if it never fits
        now = self._clock()
        tickets = [Ticket(self, *size, since=now) for size in zip(tokens, lengths, strict=True)]
        self._waiting += tickets
        self._admit()
        if len(self._waiting) > self._max_waiting:
            seconds = self._retry_after()
            for ticket in tickets:
                self._forget(ticket)
            raise queue_full(seconds)
        return tickets

    def begin(self, ticket: Ticket) -> None:
        """Record that the answer's session is open."""
        self._opening.discard(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Record that the answer is finished or cancelled."""
        begun = self._running.get(ticket)
        if begun is not None:
            self._answer_seconds += 0.1 * (self._clock() - begun - self._answer_seconds)
        self._forget(ticket)
        self._admit()

    def shut(self) -> None:
        """Accept no more requests; running and waiting answers stay."""
        self._open = False

    def _admit(self) -> None:
        """Admit due answers, as many as fit."""
        while self._waiting and len(self._running) < self._max_running:
            now = self._clock()
            due = max(self._waiting, key=lambda ticket: (now - ticket.since) / ticket.tokens)
            if not self._fits([*(ticket.length for ticket in self._opening), due.length]):
                self._admit_later()
                return
            self._waiting.remove(due)
            self._running[due] = now
            self._opening.add(due)
            due.admitted.set()

    def _admit_later(self) -> None:
        """Try again soon, even if no answer arrives or ends: another answer may be due then, or
        memory may be freed within an answer."""
        if self._recheck is None:
            self._recheck = asyncio.get_running_loop().call_later(_POLL, self._admit_again)

    def _admit_again(self) -> None:
        self._recheck = None
        self._admit()

    def _forget(self, ticket: Ticket) -> None:
        self._running.pop(ticket, None)
        self._opening.discard(ticket)
        if ticket in self._waiting:
            self._waiting.remove(ticket)

    def _retry_after(self) -> int:
        """The seconds until a place may be free."""
        ahead = len(self._waiting) - self._max_waiting
        seconds = round(self._answer_seconds * ahead / max(1, len(self._running)))
        return min(_MAX_RETRY_AFTER, max(1, seconds))
