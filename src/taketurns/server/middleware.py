"""What stands between the socket and the endpoints: names, keys, the size of a body, headers, the
log.

Plain ASGI, so that a stream passes through untouched and a client that hangs up is noticed.
"""

from __future__ import annotations

import asyncio
import hmac
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

from taketurns.server.errors import ApiError, failed
from taketurns.server.logs import LOG

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HUNG_UP = 499  # as nginx says that a client did
HEADERS = {
    "content-security-policy": _CSP,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class AccessLog:
    """Gives every request an id, every response its headers, and writes one line a request; what
    nobody below has caught is an answer too, with its line. `refused` is told the code, or else the
    status, of every response that is an error. Endpoints put what they know into
    `scope["taketurns"]`."""

    def __init__(self, app: ASGIApp, refused: Callable[[str], None]) -> None:
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = perf_counter(), _HUNG_UP
        identifier = uuid4().hex
        fields: dict[str, Any] = {"id": identifier}
        scope["taketurns"] = fields

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = identifier
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if status >= 400 and status != _HUNG_UP:
                    self._refused(fields.get("error") or str(status))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as bug:
            LOG.error("unexpected error", exc_info=bug, extra={"fields": {"id": identifier}})
            error = failed(bug)
            fields["error"] = error.code
            if status == _HUNG_UP:  # or the server breaks the connection off: it was not all
                await JSONResponse(error.body(), error.status_code)(scope, receive, sending)
        finally:
            about = {"method": scope["method"], "path": scope["path"], "status": status}
            seconds = round(perf_counter() - begun, 4)
            level = ERROR if "reason" in fields else INFO
            LOG.log(level, "request", extra={"fields": {**about, "seconds": seconds, **fields}})


class Framing:
    """Refuses a request that says in two ways how long it is, Content-Length and Transfer-Encoding,
    and closes its connection: whoever stands before this server may have taken the other one, and
    what follows for a request of somebody else (request smuggling)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        if not ("content-length" in headers and "transfer-encoding" in headers):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            400,
            "a request has Content-Length or Transfer-Encoding, not both",
            code="ambiguous_length",
        )
        scope["taketurns"]["error"] = error.code
        response = JSONResponse(error.body(), error.status_code, {"connection": "close"})
        await response(scope, receive, send)


class HostCheck:
    """Refuses a request that calls the server by a foreign name.

    A page of another site can give its own name the address 127.0.0.1 once it is loaded (DNS
    rebinding); the browser then takes this server for that site, but still sends the name.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._may_pass(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            403,
            "this server may not be called by this name: use localhost, or add it to allowed_hosts",
            code="unknown_host",
        )
        scope["taketurns"]["error"] = error.code
        await JSONResponse(error.body(), error.status_code)(scope, receive, send)

    def _may_pass(self, host: str) -> bool:
        name = host_name(host)
        if name == "localhost" or name.endswith(".localhost") or name in self._allowed:
            return True
        return is_address(name)


class Guard:
    """Asks for an API key everywhere but at `open_paths` and what is below `/page/`."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: frozenset[str]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            401,
            "this server needs an API key: send it as Authorization: Bearer KEY",
            code="invalid_api_key",
        )
        scope["taketurns"]["error"] = error.code
        headers = {"www-authenticate": "Bearer"}
        await JSONResponse(error.body(), 401, headers)(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        if not self._digests or path in self._open or path.startswith("/page/"):
            return True
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _digest(key.strip())
        # Every key is compared, in constant time: how long it takes tells nothing.
        known = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(known)


class BodyLimit:
    """Refuses a request whose body is longer than `limit` bytes, without reading the rest, or has
    not come within `seconds`."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            error = self._error()
            scope["taketurns"]["error"] = error.code
            response = JSONResponse(error.body(), error.status_code, {"connection": "close"})
            await response(scope, receive, send)
            return
        read, whole = 0, False
        until = asyncio.get_running_loop().time() + self._seconds

        async def receiving() -> Message:
            nonlocal read, whole
            if whole:  # all that can come is that the client hangs up
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise self._late() from None
            read += len(message.get("body", b""))
            if read > self._limit:
                raise self._error()
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receiving, send)

    def _late(self) -> ApiError:
        return ApiError(
            408,
            f"the request did not come within {self._seconds:g} s",
            code="request_timeout",
            headers={"connection": "close"},
        )

    def _error(self) -> ApiError:
        return ApiError(
            413, f"a request may have {self._limit} bytes", code="request_too_large", retry=False
        )


def host_name(host: str) -> str:
    """Of a Host header, without its port."""
    name, colon, port = host.strip().lower().rpartition(":")
    return (name if colon and port.isdigit() else host.strip().lower()).strip("[]")


def is_address(name: str) -> bool:
    """An IP address, which no name server can turn into another."""
    with suppress(ValueError):
        ip_address(name)
        return True
    return False


def is_loopback(host: str) -> bool:
    """Only this machine reaches a server that listens on `host`."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
