"""A served team: answers requests, monitors them, and shuts down in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import Request, Response

from taketurns.engines.base import BoundedEngine, FailingEngine
from taketurns.errors import NotANumberError
from taketurns.runs.records import json_safe
from taketurns.server.admission import AdmissionGate
from taketurns.server.config import ServeConfig
from taketurns.server.errors import (
    ApiError,
    as_api_error,
    engine_ended,
    loading,
    shutting_down,
)
from taketurns.server.job_group import JobFailed, JobGroup, JobStarted
from taketurns.server.jobs import AnyRequest, make_jobs
from taketurns.server.logs import LOG
from taketurns.server.metrics import Metrics
from taketurns.server.middleware import client_request_id
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.monitor import RequestMonitor
from taketurns.server.openai_responses.store import ResponseStore
from taketurns.server.responses import AnswerBuilder, MakeBuilder
from taketurns.server.streaming import ClientDisconnected, EventStream, cancel_on_disconnect
from taketurns.server.tracing import Tracer

State = Literal["loading", "ready", "leaving", "failed"]

_POLL = 0.02  # seconds
_GRACE = 2.0  # seconds for interrupted streams to send their error
_UNREADY: Mapping[State, Callable[[], ApiError]] = {
    "loading": loading,
    "leaving": shutting_down,
    "failed": engine_ended,
}


class Serving:
    """Answers requests with the models of `registry`, within the limits of `config`."""

    def __init__(
        self, registry: ModelRegistry, config: ServeConfig, tracer: Tracer | None = None
    ) -> None:
        self.registry = registry
        self.config = config
        self.metrics = Metrics()
        self.responses = ResponseStore(config.stored_responses, config.stored_bytes)
        engine = registry.team.engine
        fits = engine.fits if isinstance(engine, BoundedEngine) else None
        self.gate = AdmissionGate(config.max_running, config.max_waiting, fits=fits)
        self._tracer = tracer
        self._loaded = False
        self._open_groups: set[JobGroup] = set()

    @property
    def state(self) -> State:
        if not self.gate.open:
            return "leaving"
        engine = self.registry.team.engine
        if isinstance(engine, FailingEngine) and engine.failure is not None:
            return "failed"
        return "ready" if self._loaded else "loading"

    async def load(self) -> None:
        """Load every model; requests are refused before that. Raises ConfigError or EngineError."""
        await self.registry.prepare()
        async with self.registry.team.engine.session(0, 1):
            pass  # the first session loads a switcher's weights
        self._loaded = True

    async def leave(self) -> None:
        """Admit no more requests. Returns when the running ones are answered, or after
        `config.drain` seconds."""
        self.gate.shut()
        if await self._drained_within(self.config.drain):
            return
        for group in self._open_groups:
            group.interrupt()
        await self._drained_within(_GRACE)

    async def _drained_within(self, seconds: float) -> bool:
        """Whether every response is written and read within `seconds` seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self._open_groups:
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Release the models, and send the last traces."""
        await self.registry.team.aclose()
        if self._tracer is not None:
            await self._tracer.close()

    async def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models; the team's entry has the page's example questions."""
        team, *candidates = await self.registry.describe()
        extension = {**team["taketurns"], "examples": list(self.config.examples)}
        return [{**team, "taketurns": extension}, *candidates]

    async def respond(
        self, body: AnyRequest, request: Request, builder_of: MakeBuilder
    ) -> Response:
        """The response to a request for answers, in the form of its builder. Raises ApiError and
        TakeTurnsError."""
        if (state := self.state) != "ready":
            raise _UNREADY[state]()
        model = self.registry.find(body.model).name
        jobs = await make_jobs(body, self.registry, self.config)
        fields = request.scope["taketurns"]
        if body.request_id is not None and client_request_id(request.headers) is None:
            fields["id"] = body.request_id
        builder = builder_of(fields["id"], model, jobs)
        monitor = RequestMonitor(self.metrics, model, jobs, log_text=self.config.log_text)
        group = JobGroup(jobs, self.gate, self.config)
        fields |= {"model": model, "stream": bool(body.stream)}

        async def stream(push: Callable[[bytes], Awaitable[None]]) -> None:
            async with self._monitored(group, monitor, request):
                await _stream(group, monitor, builder, push)

        if body.stream:
            return EventStream(stream)

        async def whole() -> bytes:
            async with self._monitored(group, monitor, request):
                return await _whole(group, monitor, builder)

        try:
            content = await cancel_on_disconnect(request.receive, whole())
            return Response(content, media_type="application/json")
        except ClientDisconnected:
            fields["error"] = "client_gone"
            return Response(status_code=499)

    @asynccontextmanager
    async def _monitored(
        self, group: JobGroup, monitor: RequestMonitor, request: Request
    ) -> AsyncIterator[None]:
        """Run the jobs, then give the monitor's facts to the log and the traces."""
        try:
            async with group:
                monitor.open()
                self._open_groups.add(group)
                yield
        except ApiError as error:
            monitor.fields |= error.fields()
            raise
        finally:
            self._open_groups.discard(group)
            monitor.close()
            request.scope["taketurns"] |= monitor.fields
            if self._tracer is not None:
                self._tracer.record(monitor, request.headers)


async def _stream(
    group: JobGroup,
    monitor: RequestMonitor,
    builder: AnswerBuilder,
    push: Callable[[bytes], Awaitable[None]],
) -> None:
    """Push the events as they come. An error before the first token is raised, so that the response
    has its status; a later error is the last event of the stream."""
    begun = False
    async for events in group:
        chunks: list[bytes] = []
        error: ApiError | None = None
        for index, event in events:
            monitor.see(index, event)
            if isinstance(event, JobStarted):
                continue
            if not begun and isinstance(event, JobFailed):
                raise event.error
            if not begun:
                chunks.append(builder.opening())
                begun = True
            if isinstance(event, JobFailed):
                error = event.error
                break
            try:
                chunks.append(builder.event(index, event))
            except ValueError:  # end the stream with an error event
                error = _not_a_number()
                LOG.error("an answer is not valid JSON", extra={"fields": error.fields()})
                break
        if error is not None:
            chunks.append(builder.error_event(error))
        if chunks:
            await push(b"".join(chunks))
        if error is not None:
            return
    await push(builder.closing())


async def _whole(group: JobGroup, monitor: RequestMonitor, builder: AnswerBuilder) -> bytes:
    """The whole response. The body of an error has the text written so far."""
    async for events in group:
        for index, event in events:
            monitor.see(index, event)
            if isinstance(event, JobFailed):
                event.error.more = builder.partial()
                raise event.error
            if not isinstance(event, JobStarted):
                builder.add(index, event)
    try:
        return await asyncio.to_thread(builder.encoded)
    except ValueError as cause:
        error = _not_a_number()
        error.more = json_safe(builder.partial())
        raise error from cause


def _not_a_number() -> ApiError:
    return as_api_error(NotANumberError("an answer holds NaN or infinity, which is not JSON"))
