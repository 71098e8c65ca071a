"""A team finds its servers again where they have moved to, by the URLs of its file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from taketurns.integrations.launch.forwarding import ForwardingTransport

FIXED = "http://127.0.0.1:1"  # in the team file; nobody listens there


@asynccontextmanager
async def replying(text: str) -> AsyncIterator[str]:
    """A server that says `text`; its URL."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(text)}\r\n\r\n"
        writer.write((head + text).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_is_asked_for_once_and_again_when_it_has_moved() -> None:
    asked, places = 0, [""]

    async def find() -> str:
        nonlocal asked
        asked += 1
        return places[0]

    async with httpx.AsyncClient(transport=ForwardingTransport({FIXED: find})) as client:
        async with replying("here") as places[0]:
            for _ in range(3):
                assert (await client.get(f"{FIXED}/v1/models")).text == "here"
            assert asked == 1
        async with replying("there") as places[0]:
            with pytest.raises(httpx.ConnectTimeout):  # so refused in httpx-aiohttp; tried again
                await client.get(f"{FIXED}/v1/models")
            assert (await client.get(f"{FIXED}/v1/models")).text == "there"
            assert asked == 2
            # Other servers are where their URLs say.
            assert (await client.get(f"{places[0]}/v1/models")).text == "there"


async def test_one_whose_keeper_died_cannot_be_reached() -> None:
    async def find() -> str:
        raise RuntimeError("the actor died")

    async with httpx.AsyncClient(transport=ForwardingTransport({FIXED: find})) as client:
        with pytest.raises(httpx.ConnectError, match="the actor died"):
            await client.get(f"{FIXED}/v1/models")


async def test_one_that_runs_nowhere_cannot_be_reached() -> None:
    async def find() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(
        transport=ForwardingTransport({FIXED: find}, timeout=0.05)
    ) as client:
        with pytest.raises(httpx.ConnectError, match="is not running"):
            await client.get(f"{FIXED}/v1/models")
