"""Who may write now: a bounded number of answers, a bounded queue, and fairness in it.

An answer is let in when there is a place for it and the engine has memory for it: all waiting is
done here. Of the answers that wait, the one is let in that has waited longest in proportion to the
tokens it asks for (highest response ratio next). A short request passes long ones, and a long one's
turn comes all the same: nobody is let in past the one that is due. Among those that write, the
engine takes turns patch by patch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from taketurns.server.errors import busy, leaving

Fits = Callable[[Sequence[int]], bool]
"""Whether the engine has memory for answers of these lengths, as `BoundedEngine.fits`."""

_LONGEST_ADVICE = 60
_GLANCE = 0.1


class Ticket:
    """A place in the queue, then the right to write; give it back with `close`.

    `tokens` is how many may be written, `length` how long the session may get."""

    def __init__(self, gate: AdmissionGate, tokens: int, length: int, since: float) -> None:
        self.tokens = tokens
        self.length = length
        self.since = since
        self.called = asyncio.Event()
        self._gate = gate

    async def wait(self) -> None:
        """Return when it is this answer's turn."""
        await self.called.wait()

    def begin(self) -> None:
        """The session is open: from now on the engine itself knows what it takes."""
        self._gate.begin(self)

    def close(self) -> None:
        """Leave, the session closed; whoever is next is called. May be called twice."""
        self._gate.leave(self)


class AdmissionGate:
    """Lets `running` answers write, as long as they fit, and `waiting` more wait. `clock` counts
    seconds."""

    def __init__(
        self,
        running: int,
        waiting: int,
        clock: Callable[[], float] = monotonic,
        fits: Fits | None = None,
    ) -> None:
        self._room = running
        self._most_waiting = waiting
        self._fits: Fits = fits or (lambda lengths: True)
        self._clock = clock
        self._running: dict[Ticket, float] = {}
        self._waiting: list[Ticket] = []
        self._opening: set[Ticket] = set()  # called, but no session yet
        self._glance: asyncio.TimerHandle | None = None
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

    def enter(self, tokens: Sequence[int], lengths: Sequence[int] | None = None) -> list[Ticket]:
        """Places for a request's answers, all or none. `tokens` is how many each may write,
        `lengths` how long its session may get, with the prompt; None: not more than that.

        Raises ApiError: 429 when the queue is full, 503 when the server is leaving. Raises
        CapacityError for an answer that will never fit.
        """
        if not self._open:
            raise leaving()
        lengths = tokens if lengths is None else lengths
        for length in lengths:
            self._fits([length])  # now or later; raises where it is never
        now = self._clock()
        tickets = [Ticket(self, *size, since=now) for size in zip(tokens, lengths, strict=True)]
        self._waiting += tickets
        self._call()
        if len(self._waiting) > self._most_waiting:
            advice = self._advice()
            for ticket in tickets:
                self._forget(ticket)
            raise busy(advice)
        return tickets

    def begin(self, ticket: Ticket) -> None:
        """The answer's session is open."""
        self._opening.discard(ticket)

    def leave(self, ticket: Ticket) -> None:
        """The answer is written, or given up."""
        begun = self._running.get(ticket)
        if begun is not None:
            self._seconds += 0.1 * (self._clock() - begun - self._seconds)
        self._forget(ticket)
        self._call()

    def shut(self) -> None:
        """Let nobody in any more; those inside and those who wait stay."""
        self._open = False

    def _call(self) -> None:
        """Let in who is due, as many as can be."""
        while self._waiting and len(self._running) < self._room:
            now = self._clock()
            due = max(self._waiting, key=lambda ticket: (now - ticket.since) / ticket.tokens)
            if not self._fits([*(ticket.length for ticket in self._opening), due.length]):
                self._look_again()
                return
            self._waiting.remove(due)
            self._running[due] = now
            self._opening.add(due)
            due.called.set()

    def _look_again(self) -> None:
        """Soon, although nobody comes or leaves: others are due as time passes, and memory may be
        given back in the middle of an answer."""
        if self._glance is None:
            self._glance = asyncio.get_running_loop().call_later(_GLANCE, self._look)

    def _look(self) -> None:
        self._glance = None
        self._call()

    def _forget(self, ticket: Ticket) -> None:
        self._running.pop(ticket, None)
        self._opening.discard(ticket)
        if ticket in self._waiting:
            self._waiting.remove(ticket)

    def _advice(self) -> int:
        """Seconds after which trying again may help."""
        ahead = len(self._waiting) - self._most_waiting
        return min(
            _LONGEST_ADVICE, max(1, round(self._seconds * ahead / max(1, len(self._running))))
        )
