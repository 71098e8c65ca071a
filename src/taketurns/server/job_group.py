"""Runs the jobs of one request: one task per job, and one stream of their events.

A job holds its place while it is written, not while its client reads. So a slow client holds only
the unread events in memory, and no memory of the models. Leaving the `async with` cancels running
jobs, which frees their memory within one token.
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
from taketurns.server.echo import Echo, EndToken, echo_of
from taketurns.server.errors import ApiError, as_api_error, shutting_down, timed_out
from taketurns.server.jobs import CompletionJob
from taketurns.server.logs import LOG
from taketurns.types import Delta, Patch, Trace

_INTERRUPTED = "interrupted"  # the message of the cancellation
_MAX_BATCH = 64  # events that are sent before other requests get their turn


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job is admitted and its session is open, after a wait of `waited` seconds."""

    waited: float


@dataclass(frozen=True, slots=True)
class JobFailed:
    """An answer failed; the events before this one stay valid."""

    error: ApiError


Event = JobStarted | Echo | Delta | Patch | EndToken | Trace | JobFailed
"""A job starts, may echo its prompt, writes deltas and patches, and ends with its trace or fails.
Where the prompt has log-probabilities, the end token of the answer comes too."""


class JobGroup:
    """Runs the jobs of one request. `async with` it, then iterate over `(index, event)` lists."""

    def __init__(
        self, jobs: Sequence[CompletionJob], gate: AdmissionGate, config: ServeConfig
    ) -> None:
        self._jobs = jobs
        self._gate = gate
        self._config = config
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._unfinished = len(jobs)

    async def __aenter__(self) -> JobGroup:
        """Start the jobs. Raises ApiError if the queue is full, CapacityError for an answer that
        never fits."""
        tickets = self._gate.enter(
            [job.policy.max_tokens for job in self._jobs], [job.length for job in self._jobs]
        )
        for job, ticket in zip(self._jobs, tickets, strict=True):
            task = asyncio.create_task(self._run(job, ticket))
            task.add_done_callback(partial(_close, ticket))  # even if it never started
            self._tasks.append(task)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """Yields lists of the events since the last one, each with at least one event. A slow
        client gets long lists; other requests get their turn between two lists."""
        while self._unfinished:
            events = [await self._events.get()]
            while not self._events.empty() and len(events) < _MAX_BATCH:
                events.append(self._events.get_nowait())
            self._unfinished -= sum(isinstance(event, Trace | JobFailed) for _, event in events)
            yield events
            await asyncio.sleep(0)

    def interrupt(self) -> None:
        """End unfinished answers with an error, because the server stops."""
        for task in self._tasks:
            task.cancel(_INTERRUPTED)

    async def _run(self, job: CompletionJob, ticket: Ticket) -> None:
        def emit(event: Event) -> None:
            self._events.put_nowait((job.index, event))

        began = False
        entered = perf_counter()
        timeout = asyncio.timeout(self._config.timeout)
        try:
            async with timeout:
                await ticket.wait()
                async with job.team.answer(
                    job.draft, job.seed, job.policy, emit, job.logprobs
                ) as answer:
                    ticket.begin()
                    began = True
                    emit(JobStarted(perf_counter() - entered))
                    if job.echo is not None:
                        emit(await echo_of(job, answer.session))
                    if job.writes:
                        await answer.write()
            end = job.draft.end_token
            if end is not None and job.echoes_logprobs and not job.draft.stopped:
                emit(EndToken(end))
            emit(job.draft.trace(job.seed))
        except TakeTurnsError as error:
            emit(JobFailed(as_api_error(error)))
        except asyncio.CancelledError as reason:
            if reason.args == (_INTERRUPTED,):
                emit(JobFailed(shutting_down()))
            raise
        except Exception as error:
            if timeout.expired():
                emit(JobFailed(timed_out(self._config.timeout, began)))
            else:
                LOG.exception("an answer failed", exc_info=error)
                emit(JobFailed(as_api_error(error)))
        finally:
            ticket.close()


def _close(ticket: Ticket, task: asyncio.Task[None]) -> None:
    ticket.close()
