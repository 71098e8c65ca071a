"""The middleware between the socket and the endpoints: host names, API keys, the size of a body,
response headers and the access log.

It is plain ASGI, so streams pass unchanged and disconnects are noticed.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address
from logging import ERROR, INFO
from time import perf_counter
from typing import Any
from uuid import uuid4

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taketurns.server.error_forms import error_body
from taketurns.server.errors import ApiError, as_api_error, too_large
from taketurns.server.logs import LOG
from taketurns.server.schemas import REQUEST_ID

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DISCONNECTED = 499  # nginx's status for a client that closed the connection
HEADERS = {
    "content-security-policy": _CSP,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class AccessLog:
    """Gives every request an id, the client's own where it sends one as `x-request-id`, and every
    response its headers, and logs one line per request.

    An exception that was not caught becomes a response too. `count_error` is called with the code,
    or else the status, of every error response. Endpoints put facts into `scope["taketurns"]`; its
    items are keys of the log's line.
    """

    def __init__(self, app: ASGIApp, count_error: Callable[[str], None]) -> None:
        self._app = app
        self._count_error = count_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), _DISCONNECTED
        fields: dict[str, Any] = {"id": client_request_id(Headers(scope=scope)) or uuid4().hex}
        scope["taketurns"] = fields

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = fields["id"]
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if status >= 400 and status != _DISCONNECTED:
                    self._count_error(fields.get("error") or str(status))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as bug:
            LOG.error("unexpected error", exc_info=bug, extra={"fields": {"id": fields["id"]}})
            error = as_api_error(bug)
            fields["error"] = error.code
            if status == _DISCONNECTED:  # otherwise the server closes the incomplete response
                response = JSONResponse(error_body(error, scope["path"]), error.status_code)
                await response(scope, receive, send_with_headers)
        finally:
            request = {"method": scope["method"], "path": scope["path"], "status": status}
            seconds = round(perf_counter() - started, 4)
            level = ERROR if "reason" in fields else INFO
            LOG.log(level, "request", extra={"fields": {**request, "seconds": seconds, **fields}})


class BodyDrain:
    """Reads what a client is still sending when its response is complete, and forgets it.

    A socket that is closed with unread bytes resets the connection, and a client that was still
    sending then sees no response but the reset (RFC 9112, section 9.6). Reading ends with the body,
    after `idle` seconds without a byte and after `seconds` in all.
    """

    def __init__(self, app: ASGIApp, seconds: float, idle: float = 2.0) -> None:
        self._app = app
        self._seconds = seconds
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client that waits for "100 Continue" sends no body after an error.
        complete = Headers(scope=scope).get("expect", "").lower() == "100-continue"

        async def receive_noted() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def drain() -> None:
            deadline = asyncio.get_running_loop().time() + self._seconds
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    while not complete:
                        await asyncio.wait_for(receive_noted(), self._idle)

        async def send_drained(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if ends and not complete:
                await send({**message, "more_body": True})
                await drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, receive_noted, send_drained)


class PlainRequests:
    """Turns two ways of asking into the plain one. A HEAD request is answered as GET, and the
    socket's side leaves the body out. A request line with a whole URL, as proxies are sent it, is
    read as its path, and its host is the one that counts (RFC 9112, section 3.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
            if scope["path"].partition("://")[0].lower() in ("http", "https"):
                scope = _by_path(scope)
        await self._app(scope, receive, send)


def _by_path(scope: Scope) -> Scope:
    """The scope of a request for a whole URL, as if it had been for its path."""
    host, slash, path = scope["path"].partition("://")[2].partition("/")
    plain: dict[str, Any] = {**scope, "headers": list(scope["headers"]), "path": slash + path}
    plain["path"] = plain["path"] or "/"
    raw = scope.get("raw_path")
    if raw is not None:
        _, slash, path = raw.partition(b"://")[2].partition(b"/")
        plain["raw_path"] = slash + path or b"/"
    MutableHeaders(scope=plain)["host"] = host
    return plain


def client_request_id(headers: Headers) -> str | None:
    """The id that a client gave its request, None where it gave none that a header and a line of
    the log can hold."""
    given = headers.get("x-request-id", "")
    return given if re.fullmatch(REQUEST_ID, given) else None


class RequestCheck(ABC):
    """A middleware that answers a request with the error of `check`, if there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self.check(scope["path"], Headers(scope=scope))
        if error is None:
            await self.forward(scope, receive, send)
            return
        scope["taketurns"]["error"] = error.code
        response = JSONResponse(error_body(error, scope["path"]), error.status_code, error.headers)
        await response(scope, receive, send)

    @abstractmethod
    def check(self, path: str, headers: Headers) -> ApiError | None:
        """The error of a request for `path`, None if it may pass."""

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a valid request on."""
        await self._app(scope, receive, send)


class FramingCheck(RequestCheck):
    """Refuses a request with both Content-Length and Transfer-Encoding, and closes its connection.
    A proxy in front of this server may use the other header, and would then take the rest of the
    body for the request of another client (request smuggling)."""

    def check(self, path: str, headers: Headers) -> ApiError | None:
        if not ("content-length" in headers and "transfer-encoding" in headers):
            return None
        return ApiError(
            400,
            "a request must have Content-Length or Transfer-Encoding, not both",
            code="ambiguous_length",
            headers={"connection": "close"},
        )


class HostCheck(RequestCheck):
    """Refuses a request whose Host header has a name that is not allowed.

    After a page of another site is loaded, the site can map its own name to 127.0.0.1 (DNS
    rebinding). The browser then takes this server for that site, but still sends the name.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        super().__init__(app)
        self._allowed = {"localhost", *(name.lower() for name in allowed)}

    def check(self, path: str, headers: Headers) -> ApiError | None:
        name = host_name(headers.get("host", ""))
        if name in self._allowed or name.endswith(".localhost") or is_address(name):
            return None
        return ApiError(
            403,
            "this host name is not allowed: use localhost, or add the name to allowed_hosts",
            code="unknown_host",
        )


class ApiKeyCheck(RequestCheck):
    """Requires an API key, except at `open_paths` and below `/page/`. Without keys, all requests
    pass."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: frozenset[str]) -> None:
        super().__init__(app)
        self._digests = [_digest(key) for key in keys]
        self._open_paths = open_paths

    def check(self, path: str, headers: Headers) -> ApiError | None:
        if not self._digests or path in self._open_paths or path.startswith("/page/"):
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if not scheme and (own := headers.get("x-api-key")) is not None:  # as Anthropic's clients
            scheme, key = "bearer", own
        digest = _digest(key.strip())
        # Compare every key in constant time, so that the time reveals nothing about the keys.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() == "bearer" and any(matches):
            return None
        return ApiError(
            401,
            "this server needs an API key: send it as Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


class BodyLimit(RequestCheck):
    """Refuses a request whose body is longer than `limit` bytes, without keeping the rest, or does
    not arrive within `seconds`."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        super().__init__(app)
        self._limit = limit
        self._seconds = seconds

    def check(self, path: str, headers: Headers) -> ApiError | None:
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            return too_large(self._limit, headers={"connection": "close"})
        return None

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        received, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # only a disconnect can follow, at any time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_late() from None
            received += len(message.get("body", b""))
            if received > self._limit:
                raise too_large(self._limit, retry=False)
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, limited, send)

    def _too_late(self) -> ApiError:
        return ApiError(
            408,
            f"the request did not arrive within {self._seconds:g} s",
            code="request_timeout",
            headers={"connection": "close"},
        )


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = host.strip().lower().rpartition(":")
    return (name if colon and port.isdigit() else host.strip().lower()).strip("[]")


def is_address(name: str) -> bool:
    """Whether `name` is an IP address, which a name server cannot map to another one."""
    with suppress(ValueError):
        ip_address(name)
        return True
    return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
