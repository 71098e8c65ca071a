"""The connections to servers."""

from __future__ import annotations

import asyncio
import json

import pytest

from taketurns.engines.http.client import Client, Key
from taketurns.engines.http.faults import RetryableError

REPLY = json.dumps({"fine": True}).encode()


async def test_all_requests_are_with_the_server_at_a_time() -> None:
    """aiohttp's own limit is 100 connections, beyond which requests wait without a word."""
    count, waiting, arrived = 150, 0, asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        if waiting == count:
            arrived.set()
        await arrived.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(REPLY), REPLY))
        await writer.drain()
        writer.close()

    client = Client()
    async with await asyncio.start_server(reply, "127.0.0.1", 0, backlog=2 * count) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        replies = await asyncio.gather(*(client.get(url, Key(), 60) for _ in range(count)))
        await client.close()
    assert replies == [{"fine": True}] * count


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/9 200 fine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        b"",
    ],
)
async def test_a_reply_that_is_not_http_is_a_fault_of_the_server(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    client = Client()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(RetryableError):
            await client.get(url, Key(), 60)
        await client.close()
