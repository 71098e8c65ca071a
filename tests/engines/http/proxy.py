"""Stands between the engine and a server and does to its replies what networks and crashes do.

Each request draws its misfortune from a seeded generator. A reply may be cut at any byte, delayed,
or replaced; the connection it came over is gone afterwards, as with a process that died.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from .served import whole

Misfortune = Literal["none", "refuse", "cut", "hang", "error", "busy", "garbage", "slow"]


@dataclass
class Proxy:
    """Forwards to `target`. `odds` are the misfortunes' weights; "dead" True refuses everything.
    `seen` counts what happened, `flowing` the streams that are in the middle: some of their text
    has been passed on, and more is to come."""

    target: str
    seed: int
    odds: dict[Misfortune, float]
    dead: bool = False
    url: str = ""
    seen: dict[str, int] = field(default_factory=dict)
    flowing: set[asyncio.StreamReader] = field(default_factory=set)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self) -> asyncio.Server:
        self._random = Random(self.seed)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def die(self) -> None:
        """Drop what is under way and refuse what comes, until `dead` is False again."""
        self.dead = True
        await self.stop()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._pass_on(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether the connection may be used again."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        body = await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
        fate = self._draw(head)
        self.seen[fate] = self.seen.get(fate, 0) + 1
        if fate == "refuse":
            return False
        if fate == "error":
            whole(writer, {"error": "CUDA error: device-side assert triggered"}, 503)
            return True
        if fate == "busy":
            whole(writer, {"error": "too many"}, 429, "retry-after: 0.01")
            return True
        host, port = self.target.removeprefix("http://").split(":")
        upstream, to_server = await asyncio.open_connection(host, int(port))
        try:
            to_server.write(head + body)
            left = self._random.randrange(1, 4000) if fate in ("cut", "hang", "garbage") else None
            return await self._reply(upstream, writer, fate, left)
        finally:
            self.flowing.discard(upstream)
            to_server.close()

    async def _reply(
        self,
        upstream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fate: str,
        left: int | None,
    ) -> bool:
        head = await upstream.readuntil(b"\r\n\r\n")
        length = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        missing = len(head) + int(length[0].split(b":")[1]) if length else None
        data = head
        while data:
            if left is not None and len(data) >= left:
                noise = self._random.randbytes(200) if fate == "garbage" else b""
                writer.write(data[: left - 1] + noise)
                await writer.drain()
                if fate == "hang":
                    await asyncio.sleep(60)
                return False
            if fate == "slow":
                await asyncio.sleep(self._random.random() * 0.005)
            writer.write(data)
            await writer.drain()
            left = None if left is None else left - len(data)
            missing = None if missing is None else missing - len(data)
            if missing == 0 or (missing is None and data.endswith(b"\r\n0\r\n\r\n")):
                return True
            if missing is None and data is not head:
                self.flowing.add(upstream)
            data = await upstream.read(256)
        return False

    def _draw(self, head: bytes) -> Misfortune:
        if self.dead:
            return "refuse"
        if b"/v1/completions" not in head:
            return "none"
        return self._random.choices(list(self.odds), list(self.odds.values()))[0]
