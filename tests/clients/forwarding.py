"""Passes requests on to a server at another address, so that they can be recorded on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

_OF_ONE_CONNECTION = ("connection", "content-length", "host", "transfer-encoding")


def forwarding(url: str) -> Starlette:
    """An application that answers as the server at `url` does, piece by piece."""
    client = httpx.AsyncClient(base_url=url, timeout=None)

    async def forward(request: Request) -> StreamingResponse:
        passed = client.build_request(
            request.method,
            request.url.path,
            headers=_end_to_end(request.headers),
            content=await request.body(),
        )
        reply = await client.send(passed, stream=True)
        return StreamingResponse(
            reply.aiter_raw(),
            reply.status_code,
            _end_to_end(reply.headers),
            background=BackgroundTask(reply.aclose),
        )

    @asynccontextmanager
    async def closing(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    routes = [Route("/{path:path}", forward, methods=["GET", "HEAD", "POST"])]
    return Starlette(routes=routes, lifespan=closing)


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _OF_ONE_CONNECTION}
