"""The HTTP client: every failure of a call becomes a RetryableError.

It calls the transport itself: httpx's client does nothing between them that is needed here, and
takes as long as the transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import httpx

from taketurns.engines.http.connections import connections
from taketurns.engines.http.faults import RetryableError, refuse
from taketurns.engines.http.protocol import events, parse

_EXTENSIONS = {"timeout": httpx.Timeout(None, connect=5.0).as_dict()}  # seconds
_JSON = {"content-type": "application/json"}
# aiohttp's own are those that its transport for httpx does not translate.
_FAILED = (httpx.HTTPError, aiohttp.ClientError)
_LONGEST = 64 << 20  # bytes of a whole reply


class Client:
    """Calls servers, with connections kept alive between calls."""

    def __init__(self, connect: Callable[[], httpx.AsyncBaseTransport] = connections) -> None:
        self._transport = connect()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def get(self, url: str, key: Key, seconds: float) -> Any:
        """The JSON at `url`. Raises RetryableError, and EngineError for a failure that another
        attempt would not change."""
        return await self._whole("GET", url, None, key, seconds)

    async def post(self, url: str, body: Mapping[str, Any], key: Key, seconds: float) -> Any:
        """The JSON that answers `body`. Raises as `get` does."""
        return await self._whole("POST", url, body, key, seconds)

    @asynccontextmanager
    async def stream(
        self, url: str, body: Mapping[str, Any], key: Key, seconds: float
    ) -> AsyncIterator[tuple[AsyncIterator[Any], asyncio.Timeout]]:
        """Yields the events that answer `body`, as JSON values, and their time limit, which the
        caller may move. Raises as `get` does, also inside the block."""
        async with (
            self._answered("POST", url, body, key, seconds) as (response, limit),
            aclosing(response.aiter_bytes()) as chunks,  # type: ignore[type-var]
            aclosing(events(chunks)) as values,  # type: ignore[type-var]
        ):
            yield values, limit

    async def _whole(
        self, method: str, url: str, body: Mapping[str, Any] | None, key: Key, seconds: float
    ) -> Any:
        async with self._answered(method, url, body, key, seconds) as (response, _):
            return parse(await _body(response))

    @asynccontextmanager
    async def _answered(
        self, method: str, url: str, body: Mapping[str, Any] | None, key: Key, seconds: float
    ) -> AsyncIterator[tuple[httpx.Response, asyncio.Timeout]]:
        """Yields a response with status 200 and an unread body, and its time limit. Failures inside
        the block also become a RetryableError."""
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = key.headers if content is None else _JSON | key.headers
        request = httpx.Request(
            method, url, content=content, headers=headers, extensions=_EXTENSIONS
        )
        try:
            async with (
                asyncio.timeout(seconds) as limit,
                aclosing(await self._transport.handle_async_request(request)) as response,
            ):
                if response.status_code != 200:
                    raise await _refused(response, key)
                yield response, limit
        except TimeoutError as error:
            raise RetryableError("no answer in time") from error
        except _FAILED as error:
            raise RetryableError(str(error) or type(error).__name__) from error


class Key:
    """The API key of a model's servers; `variable` is the environment variable that it comes from,
    None without a key."""

    def __init__(self, variable: str | None = None, value: str = "") -> None:
        self.variable = variable
        self.headers = {"authorization": f"Bearer {value}"} if variable else {}


async def _refused(response: httpx.Response, key: Key) -> RetryableError:
    text = (await _body(response)).decode("utf-8", "replace")
    return refuse(response.status_code, response.headers, text, key.variable)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _LONGEST:
            raise RetryableError(f"the reply is longer than {_LONGEST:,} bytes")
    return bytes(body)
