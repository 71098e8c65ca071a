#!/usr/bin/env bash
# httpx-aiohttp 0.2.0 (httpx 0.28.1, aiohttp 3.14.5), the transport that puts httpx, and so OpenAI's client, on aiohttp's connections:
# `httpx.Limits(max_connections=None)` is "no limit" in httpx, and 150 requests at a time all reach a server. Through this transport
# only 100 do, aiohttp's own default, and the others wait without a word; `max_connections=0`, aiohttp's word for no limit, lets
# all through. And a refused connection is an httpx.ConnectTimeout at once, not an httpx.ConnectError.
# Installs 10 MB. Seen on 2026-12-01.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check httpx-aiohttp==0.2.0 httpx==0.28.1 aiohttp==3.14.5
cat > "$here/limit.py" <<'PYTHON'
import asyncio
import socket
from importlib.metadata import version

import httpx
from httpx_aiohttp import AiohttpTransport

REQUESTS = 150


async def at_a_time(transport):
    """How many of 150 requests a server has before it answers any."""
    waiting, most, answer = 0, 0, asyncio.Event()

    async def handle(reader, writer):
        nonlocal waiting, most
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        most = max(most, waiting)
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:
            tasks = [asyncio.create_task(client.get(url)) for _ in range(REQUESTS)]
            await asyncio.sleep(2)
            seen = most
            answer.set()
            replies = await asyncio.gather(*tasks)
    assert all(reply.text == "ok" for reply in replies)
    return seen


async def refused(transport):
    """What is raised where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with httpx.AsyncClient(transport=transport) as client:
        try:
            await client.get(f"http://127.0.0.1:{port}/")
        except httpx.HTTPError as error:
            return type(error).__name__


async def main():
    print(*(f"{name} {version(name)}" for name in ("httpx", "aiohttp", "httpx-aiohttp")))
    none, zero = httpx.Limits(max_connections=None), httpx.Limits(max_connections=0)
    seen = {
        "httpx, None": await at_a_time(httpx.AsyncHTTPTransport(limits=none)),
        "httpx-aiohttp, None": await at_a_time(AiohttpTransport(limits=none)),
        "httpx-aiohttp, 0": await at_a_time(AiohttpTransport(limits=zero)),
    }
    print(f"of {REQUESTS} requests a server has at a time:", seen)
    errors = [await refused(httpx.AsyncHTTPTransport()), await refused(AiohttpTransport())]
    print("a refused connection is", *errors)
    assert list(seen.values()) == [REQUESTS, 100, REQUESTS], "the limits have changed"
    assert errors == ["ConnectError", "ConnectTimeout"], "the errors have changed"


asyncio.run(main())
PYTHON
"$here/venv/bin/python" "$here/limit.py"
