"""A team being served: asks it, watches it write, and lets go of it in good order."""

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
from taketurns.server.errors import ApiError, failed, leaving
from taketurns.server.jobs import AnyRequest, orders
from taketurns.server.live import EventStream, HungUp, while_connected
from taketurns.server.logs import LOG
from taketurns.server.metrics import Metrics
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.responses import Reply, Style, as_event
from taketurns.server.tracing import Tracer
from taketurns.server.watch import Watch
from taketurns.server.writing import Answers, Began, Broke

State = Literal["loading", "ready", "leaving", "failed"]

_GLANCE = 0.02
_LAST_WORDS = 2.0  # seconds that broken off streams have to tell their clients


class Serving:
    """Answers requests with the models of `roster`, within the limits of `config`."""

    def __init__(
        self, roster: ModelRegistry, config: ServeConfig, tracer: Tracer | None = None
    ) -> None:
        self.roster = roster
        self.config = config
        self.metrics = Metrics()
        engine = roster.team.engine
        fits = engine.fits if isinstance(engine, BoundedEngine) else None
        self.gate = AdmissionGate(config.max_running, config.max_waiting, fits=fits)
        self._tracer = tracer
        self._loaded = False
        self._under_way: set[Answers] = set()

    @property
    def state(self) -> State:
        if not self.gate.open:
            return "leaving"
        engine = self.roster.team.engine
        if isinstance(engine, FailingEngine) and engine.failure is not None:
            return "failed"
        return "ready" if self._loaded else "loading"

    async def load(self) -> None:
        """Load every model; until then requests are refused. Raises ConfigError or EngineError."""
        await self.roster.prepare()
        async with self.roster.team.engine.session(0, 1):
            pass  # a switcher's weights load with the first session
        self._loaded = True

    async def leave(self) -> None:
        """Let nobody in any more, and return when those inside have all they asked for, or their
        time is up."""
        self.gate.shut()
        if await self._served_within(self.config.drain):
            return
        for answers in self._under_way:
            answers.interrupt()
        await self._served_within(_LAST_WORDS)

    async def _served_within(self, seconds: float) -> bool:
        """Whether every response is written and read within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self._under_way:
                    await asyncio.sleep(_GLANCE)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Release the models, and send the last traces."""
        await self.roster.team.aclose()
        if self._tracer is not None:
            await self._tracer.close()

    async def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models; the team's has the page's example questions."""
        team, *alone = await self.roster.describe()
        about = {**team["taketurns"], "examples": list(self.config.examples)}
        return [{**team, "taketurns": about}, *alone]

    # A request

    async def respond(self, asked: AnyRequest, request: Request, style: Style) -> Response:
        """The response to a request for answers. Raises ApiError and TakeTurnsError."""
        if (state := self.state) != "ready":
            raise _UNREADY[state]()
        model = self.roster.find(asked.model).name
        made = await orders(asked, self.roster, self.config)
        scope = request.scope
        reply = Reply(scope["taketurns"]["id"], model, made, asked, style)
        watch = Watch(self.metrics, model, made, log_text=self.config.log_text)
        answers = Answers(made, self.gate, self.config)
        scope["taketurns"] |= {"model": model, "stream": bool(asked.stream)}

        async def stream(push: Callable[[bytes], Awaitable[None]]) -> None:
            async with self._watched(answers, watch, request):
                await _stream(answers, watch, reply, push)

        if asked.stream:
            return EventStream(stream)

        async def whole() -> bytes:
            async with self._watched(answers, watch, request):
                return await _whole(answers, watch, reply)

        try:
            told = await while_connected(request.receive, whole())
            return Response(told, media_type="application/json")
        except HungUp:
            scope["taketurns"]["error"] = "client_gone"
            return Response(status_code=499)

    @asynccontextmanager
    async def _watched(
        self, answers: Answers, watch: Watch, request: Request
    ) -> AsyncIterator[None]:
        """The answers while they are written; in the end the log knows what became of them."""
        try:
            async with answers:
                watch.open()
                self._under_way.add(answers)
                yield
        except ApiError as error:
            watch.fields |= error.fields()
            raise
        finally:
            self._under_way.discard(answers)
            watch.close()
            request.scope["taketurns"] |= watch.fields
            if self._tracer is not None:
                self._tracer.record(watch, request.headers)


async def _stream(
    answers: Answers, watch: Watch, reply: Reply, push: Callable[[bytes], Awaitable[None]]
) -> None:
    begun = False
    async for events in answers:
        chunks: list[bytes] = []
        for index, event in events:
            watch.see(index, event)
            if isinstance(event, Began):
                continue
            if not begun and isinstance(event, Broke):
                raise event.error
            if not begun:
                chunks.append(reply.opening())
                begun = True
            if isinstance(event, Broke):
                await push(b"".join([*chunks, as_event(event.error.body())]))
                return
            try:
                chunks.append(reply.event(index, event))
            except ValueError:  # a number that JSON has not is no end without a word
                error = _untold()
                LOG.error("an answer cannot be told", extra={"fields": error.fields()})
                await push(b"".join([*chunks, as_event(error.body())]))
                return
        if chunks:
            await push(b"".join(chunks))
    await push(reply.closing())


async def _whole(answers: Answers, watch: Watch, reply: Reply) -> bytes:
    async for events in answers:
        for index, event in events:
            watch.see(index, event)
            if isinstance(event, Broke):
                event.error.more = reply.so_far()
                raise event.error
            if not isinstance(event, Began):
                reply.take(index, event)
    try:
        return await asyncio.to_thread(reply.encoded)
    except ValueError as error:  # what is written is no less written
        untold = _untold()
        untold.more = json_safe(reply.so_far())
        raise untold from error


def _untold() -> ApiError:
    return failed(NotANumberError("an answer holds NaN or infinity, which JSON cannot say"))


def _broken() -> ApiError:
    return ApiError(
        503,
        "the models have stopped for good: the server must be started again",
        kind="server_error",
        code="engine_ended",
        retry=False,
    )


def _loading() -> ApiError:
    return ApiError(
        503,
        "the models are being loaded",
        kind="server_error",
        code="loading",
        headers={"retry-after": "1"},
    )


_UNREADY: Mapping[State, Callable[[], ApiError]] = {
    "loading": _loading,
    "leaving": leaving,
    "failed": _broken,
}
