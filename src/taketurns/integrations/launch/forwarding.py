"""Connections to servers whose address changes, under the fixed URLs of the team file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import httpx

from taketurns.engines.http.connections import connections

_FIND_TIMEOUT = 5.0  # seconds; a running server gives its address within them

FindServer = Callable[[], Awaitable[str]]
"""Returns the current URL of a server; it may wait until the server runs."""


class ForwardingTransport(httpx.AsyncBaseTransport):
    """Sends a request for a URL in `finds` to the current URL of its server, which is looked up
    once, and again after a failed connection. A lookup may take `timeout` seconds. Raises
    httpx.ConnectError if it fails."""

    def __init__(self, finds: Mapping[str, FindServer], timeout: float = _FIND_TIMEOUT) -> None:
        self._timeout = timeout
        self._finds = {_origin(httpx.URL(url)): find for url, find in finds.items()}
        self._targets: dict[str, httpx.URL] = {}
        self._connections = connections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = _origin(request.url)
        if origin not in self._finds:
            return await self._connections.handle_async_request(request)
        target = self._targets.get(origin) or await self._find(origin, request)
        request.url = request.url.copy_with(
            scheme=target.scheme, host=target.host, port=target.port
        )
        try:
            return await self._connections.handle_async_request(request)
        except (httpx.TransportError, aiohttp.ClientError):
            self._targets.pop(origin, None)
            raise

    async def _find(self, origin: str, request: httpx.Request) -> httpx.URL:
        try:
            async with asyncio.timeout(self._timeout):
                target = self._targets[origin] = httpx.URL(await self._finds[origin]())
        except TimeoutError as error:
            raise httpx.ConnectError(f"{origin} is not running", request=request) from error
        except Exception as error:  # Ray's own types, if the lookup fails with the server
            message = f"cannot find the address of {origin}: {error}"
            raise httpx.ConnectError(message, request=request) from error
        return target

    async def aclose(self) -> None:
        await self._connections.aclose()


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.host}:{url.port}"
