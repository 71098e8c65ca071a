"""Responses that end when their client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class HungUp(Exception):
    """The client is gone."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it as soon as the client hangs up. Raises HungUp then."""
    working = asyncio.create_task(work)
    hearing = asyncio.create_task(_hang_up(receive))
    try:
        await asyncio.wait({working, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HungUp
    finally:
        working.cancel()
        hearing.cancel()
        await asyncio.gather(working, hearing, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, written by `write`, which is given a function that sends bytes.

    The status is sent with the first bytes: what fails before them is an ordinary error response.
    How long a client may not read is the connection's affair (`connection.impatient`).
    """

    media_type = "text/event-stream"

    def __init__(
        self, write: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def push(chunk: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        async def stream() -> None:
            await self._write(push)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await while_connected(receive, stream())
        except HungUp:
            scope["taketurns"].setdefault("error", "client_gone")
