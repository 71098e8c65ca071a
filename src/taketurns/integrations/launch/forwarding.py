"""Connections to servers that move: the team file's URLs stay, where they lead to changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx

from taketurns.engines.http.connections import Connections

_FIND = 5.0  # seconds in which a server that runs says where

Find = Callable[[], Awaitable[str]]
"""The URL where a server is now; it may wait until there is one."""


class Forwarding(httpx.AsyncBaseTransport):
    """Sends a request for a URL in `finds` to where its server is. That is asked once, and again
    when it cannot be reached there; `patience` is how many seconds it may take to say."""

    def __init__(self, finds: Mapping[str, Find], patience: float = _FIND) -> None:
        self._patience = patience
        self._finds = {_origin(httpx.URL(url)): find for url, find in finds.items()}
        self._found: dict[str, httpx.URL] = {}
        self._connections = Connections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = _origin(request.url)
        if origin not in self._finds:
            return await self._connections.handle_async_request(request)
        there = self._found.get(origin) or await self._find(origin, request)
        request.url = request.url.copy_with(scheme=there.scheme, host=there.host, port=there.port)
        try:
            return await self._connections.handle_async_request(request)
        except httpx.TransportError:
            self._found.pop(origin, None)
            raise

    async def _find(self, origin: str, request: httpx.Request) -> httpx.URL:
        try:
            async with asyncio.timeout(self._patience):
                found = self._found[origin] = httpx.URL(await self._finds[origin]())
        except TimeoutError as error:
            raise httpx.ConnectError(f"{origin} is not running", request=request) from error
        except Exception as error:  # whoever is asked died too, and has errors of its own kind
            said = f"nobody says where {origin} is: {error}"
            raise httpx.ConnectError(said, request=request) from error
        return found

    async def aclose(self) -> None:
        await self._connections.aclose()


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.host}:{url.port}"
