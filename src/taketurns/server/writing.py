"""A request's answers while they are written: a task an answer, one stream of events.

An answer holds its place at the gate while it is written, not while its client reads: a slow client
costs the events it has not read yet, no memory of the models. Leaving the `async with` cancels what
is still being written, which frees it within a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from taketurns.errors import TakeTurnsError
from taketurns.server.admission import AdmissionGate, Ticket
from taketurns.server.config import ServeConfig
from taketurns.server.errors import ApiError, failed, leaving, too_slow
from taketurns.server.jobs import CompletionJob
from taketurns.server.logs import LOG
from taketurns.types import Delta, Patch, Trace

_AT_ONCE = 64  # events that are told before others have their turn


@dataclass(frozen=True, slots=True)
class Began:
    """An answer's turn has come, and its memory is there; it waited so many seconds for both."""

    waited: float


@dataclass(frozen=True, slots=True)
class Broke:
    """An answer could not be finished; what was shown of it stands."""

    error: ApiError


Event = Began | Delta | Patch | Trace | Broke
"""An answer begins, is written by deltas and patches, and ends with its trace or breaks off."""


class Answers:
    """Writes the answers of one request. `async with` it, then iterate over `(index, event)`."""

    def __init__(
        self, orders: Sequence[CompletionJob], gate: AdmissionGate, config: ServeConfig
    ) -> None:
        self._orders = orders
        self._gate = gate
        self._config = config
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = len(orders)

    async def __aenter__(self) -> Answers:
        """Raises ApiError when there is no room even to wait, CapacityError when there never will
        be."""
        tickets = self._gate.enter(
            [order.policy.max_tokens for order in self._orders],
            [order.length for order in self._orders],
        )
        self._tasks = [
            asyncio.create_task(self._write(order, ticket))
            for order, ticket in zip(self._orders, tickets, strict=True)
        ]
        for task, ticket in zip(self._tasks, tickets, strict=True):
            task.add_done_callback(partial(_close, ticket))  # even if it never began
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """What has happened since the last time, at least one event. A client that reads slowly
        has many before it, and others have their turn between the parts of them."""
        while self._open:
            events = [await self._events.get()]
            while not self._events.empty() and len(events) < _AT_ONCE:
                events.append(self._events.get_nowait())
            self._open -= sum(isinstance(event, Trace | Broke) for _, event in events)
            yield events
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """The server must go now: break off what is not written yet."""
        for task in self._tasks:
            task.cancel("leaving")

    async def _write(self, order: CompletionJob, ticket: Ticket) -> None:
        def tell(event: Event) -> None:
            self._events.put_nowait((order.index, event))

        began = False
        asked = perf_counter()
        limit = asyncio.timeout(self._config.timeout)
        try:
            async with limit:
                await ticket.wait()
                async with order.team.answer(
                    order.draft, order.seed, order.policy, tell, order.logprobs
                ) as answer:
                    ticket.begin()
                    began = True
                    tell(Began(perf_counter() - asked))
                    await answer.write()
            tell(order.draft.trace(order.seed))
        except TakeTurnsError as error:
            tell(Broke(failed(error)))
        except asyncio.CancelledError as reason:
            if reason.args == ("leaving",):
                tell(Broke(leaving()))
            raise
        except Exception as error:
            if not limit.expired():
                LOG.exception("an answer broke off", exc_info=error)
            late = too_slow(self._config.timeout, began)
            tell(Broke(late if limit.expired() else failed(error)))
        finally:
            ticket.close()


def _close(ticket: Ticket, task: asyncio.Task[None]) -> None:
    ticket.close()
