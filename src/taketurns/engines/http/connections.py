"""Connections that are kept between requests: a stack of them for each server.

httpx's own pool needs time quadratic in its number of connections for every request; with 64
concurrent requests that was more than a third of the total time.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

# vLLM and uvicorn close an idle connection after five seconds; this side must close it earlier.
_IDLE = 4.0
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE)

Origin = tuple[str, str, int | None]


class Connections(httpx.AsyncBaseTransport):
    """Gives each request its own connection: the idle one used last, or a new one."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[httpx.AsyncHTTPTransport]] = {}
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        idle = self._idle.setdefault((request.url.scheme, request.url.host, request.url.port), [])
        connection = idle.pop() if idle else self._connect(request.url.scheme)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await connection.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)

        async def give_back() -> None:
            if self._closed:
                await connection.aclose()
            else:
                idle.append(connection)

        response.stream = _Lent(response.stream, give_back)
        return response

    async def aclose(self) -> None:
        self._closed = True
        for idle in self._idle.values():
            for connection in idle:
                await connection.aclose()
        self._idle.clear()

    def _connect(self, scheme: str) -> httpx.AsyncHTTPTransport:
        if scheme == "https" and self._tls is None:
            self._tls = httpx.create_ssl_context()
        return httpx.AsyncHTTPTransport(limits=_ONE, verify=self._tls or False)


class _Lent(httpx.AsyncByteStream):
    """A reply's bytes. Closing it returns the connection to the pool."""

    def __init__(
        self, stream: httpx.AsyncByteStream, give_back: Callable[[], Awaitable[None]]
    ) -> None:
        self._stream = stream
        self._give_back = give_back
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._open:
                self._open = False
                await self._give_back()
