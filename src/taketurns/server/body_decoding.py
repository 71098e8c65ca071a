"""Request bodies that come compressed (`content-encoding: gzip`)."""

from __future__ import annotations

import zlib
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taketurns.server.errors import ApiError, too_large
from taketurns.server.middleware import RequestCheck

_GZIP = ("gzip", "x-gzip")
_GZIP_BITS = 16 + zlib.MAX_WBITS  # with gzip's own header


class BodyDecoding(RequestCheck):
    """Decompresses a body as it comes, to at most `limit` bytes: what is more is not even
    decompressed. Refuses an encoding that it does not know."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        super().__init__(app)
        self._limit = limit

    def check(self, path: str, headers: Headers) -> ApiError | None:
        encoding = _encoding(headers)
        if encoding in ("", "identity", *_GZIP):
            return None
        return ApiError(
            415,
            f"content-encoding {encoding[:64]!r} is not supported: send the body as it is, or with "
            "gzip",
            code="unsupported_encoding",
            headers={"accept-encoding": "gzip"},
        )

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _encoding(Headers(scope=scope)) not in _GZIP:
            await self._app(scope, receive, send)
            return
        plain: dict[str, Any] = {**scope, "headers": list(scope["headers"])}
        headers = MutableHeaders(scope=plain)
        del headers["content-encoding"]
        del headers["content-length"]
        body = _Decompressed(self._limit)

        async def decompressed() -> Message:
            message = await receive()
            if message["type"] != "http.request" or body.over:
                return message
            more = message.get("more_body", False)
            return {**message, "body": body.feed(message.get("body", b""), last=not more)}

        await self._app(plain, decompressed, send)


class _Decompressed:
    """A body that is decompressed piece by piece; `over` once its last piece was there."""

    def __init__(self, limit: int) -> None:
        self.over = False
        self._limit = limit
        self._left = limit
        self._decoder = zlib.decompressobj(_GZIP_BITS)

    def feed(self, data: bytes, *, last: bool) -> bytes:
        """What the next piece comes to. Raises ApiError for one that is no gzip, or too much."""
        parts = []
        try:
            while data:
                if self._decoder.eof:  # a file of gzip may be several, one after the other
                    self._decoder = zlib.decompressobj(_GZIP_BITS)
                part = self._decoder.decompress(data, self._left + 1)
                self._left -= len(part)
                if self._left < 0:
                    raise too_large(self._limit, "decompressed", retry=False)
                parts.append(part)
                data = self._decoder.unused_data
        except zlib.error as error:
            raise _broken() from error
        self.over = last
        if last and not self._decoder.eof:
            raise _broken()
        return b"".join(parts)


def _encoding(headers: Headers) -> str:
    return headers.get("content-encoding", "").strip().lower()


def _broken() -> ApiError:
    return ApiError(
        400,
        "the body is not what its header content-encoding: gzip says: send whole gzip, or leave "
        "the header out",
        code="invalid_encoding",
    )
