"""Connections to servers, which are kept between requests.

They are aiohttp's, under httpx's interface for transports. A request costs a third of the processor
time that it costs on httpx's own connections, and one process has to send those of all answers."""

from __future__ import annotations

import httpx
from httpx_aiohttp import AiohttpTransport

# vLLM and uvicorn close an idle connection after five seconds; this side must close it earlier.
_IDLE = 4.0
_UNLIMITED = 0  # connections, as aiohttp counts; None would be its default, 100


def connections() -> httpx.AsyncBaseTransport:
    """As many connections as there are requests at a time, for one event loop."""
    return AiohttpTransport(limits=httpx.Limits(max_connections=_UNLIMITED, keepalive_expiry=_IDLE))
