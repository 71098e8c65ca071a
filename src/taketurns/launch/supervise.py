"""Starts servers, shows what they say, starts again what stops, and stops all in the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from taketurns.errors import EngineError, UsageError
from taketurns.launch.plan import Server

_RESTARTS = 3
_PAUSE = 5.0  # seconds before a server is started again
_GRACE = 30.0  # seconds that a server may take to stop
_POLL = 0.5


class Supervisor:
    """Runs `servers` with the program `vllm`; `say` gets their lines, each after its name."""

    def __init__(
        self,
        servers: Sequence[Server],
        vllm: Path | str,
        say: Callable[[str], None],
        pause: float = _PAUSE,
    ) -> None:
        self._servers = tuple(servers)
        self._vllm = str(vllm)
        self._say = say
        self._pause = pause

    async def run(self) -> None:
        """Until cancelled, or until a server cannot be kept running. Raises EngineError then."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(self._keep(server))
            group.create_task(self._announce())

    async def ready(self) -> None:
        """Return when all servers answer."""
        async with httpx.AsyncClient(timeout=5.0) as client:
            for server in self._servers:
                while True:
                    with suppress(httpx.HTTPError):
                        if (await client.get(f"{server.url}/health")).status_code == 200:
                            break
                    await asyncio.sleep(_POLL)

    async def _announce(self) -> None:
        await self.ready()
        self._say("all servers are ready")

    async def _keep(self, server: Server) -> None:
        for start in range(_RESTARTS + 1):
            if start:
                self._say(f"{server.name} is started again")
            code = await self._once(server)
            if start < _RESTARTS:
                self._say(f"{server.name} at {server.url} stopped with code {code}")
                await asyncio.sleep(self._pause)
        raise EngineError(
            f"{server.name} at {server.url} stopped {_RESTARTS + 1} times; what it said is above"
        )

    async def _once(self, server: Server) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                self._vllm,
                *server.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **server.environment},
                start_new_session=True,  # its workers stop with it
                limit=1 << 20,
            )
        except OSError as error:
            raise UsageError(
                f"cannot run {self._vllm}: {error.strerror}; install vLLM, or give --vllm its path"
            ) from error
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                self._say(f"{server.name} | {line.decode('utf-8', 'replace').rstrip()}")
            return await process.wait()
        finally:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a server and its workers, kindly first."""
    for sign, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
                return
