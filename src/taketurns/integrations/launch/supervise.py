"""Supervises servers: starts them, shows their output, restarts them, and stops all at the end.

On Linux a server ends with the process that started it, even after kill -9, so no GPU stays in use.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from taketurns.errors import EngineError, UsageError
from taketurns.integrations.launch.plan import VllmServer

_RESTARTS = 3
_PAUSE = 5.0  # seconds before a server is started again
_GRACE = 30.0  # seconds that a server may take to stop
_POLL = 0.5
_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which outlives exec
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class Supervisor:
    """Runs `servers` with the program `vllm`; `say` receives their output, each line after the
    server's name. A server that stops is started again after `pause` seconds, at most `restarts`
    times."""

    def __init__(
        self,
        servers: Sequence[VllmServer],
        vllm: Path | str,
        say: Callable[[str], None],
        pause: float = _PAUSE,
        restarts: int = _RESTARTS,
    ) -> None:
        self._servers = tuple(servers)
        self._vllm = str(vllm)
        self._say = say
        self._pause = pause
        self._restarts = restarts

    async def run(self) -> None:
        """Run until cancelled or stopped by SIGINT or SIGTERM. Raises an exception group: with
        EngineError if a server has no restarts left, with UsageError if vLLM is missing."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, task.cancel)
        try:
            await self.keep()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def keep(self) -> None:
        """As `run`, without signal handlers."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(self._keep(server))
            group.create_task(self._announce())

    async def ready(self) -> None:
        """Wait until all servers answer."""
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

    async def _keep(self, server: VllmServer) -> None:
        for start in range(self._restarts + 1):
            if start:
                self._say(f"{server.name} is started again")
            code = await self._once(server)
            if start < self._restarts:
                self._say(f"{server.name} at {server.url} stopped with code {code}")
                await asyncio.sleep(self._pause)
        raise EngineError(
            f"{server.name} at {server.url} stopped {self._restarts + 1} times; its output above "
            "shows why"
        )

    async def _once(self, server: VllmServer) -> int:
        if shutil.which(self._vllm) is None:
            raise UsageError(f"cannot run {self._vllm}: install vLLM, or give --vllm its path")
        process = await asyncio.create_subprocess_exec(
            *_leash(),
            self._vllm,
            *server.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **server.environment},
            start_new_session=True,  # a process group, so that its workers stop with it
            limit=1 << 20,
        )
        assert process.stdout is not None
        showing = asyncio.create_task(self._show(server, process.stdout))
        try:
            return await _ended(process)
        finally:
            await _stop(process)  # and its workers, which may still run
            await showing

    async def _show(self, server: VllmServer, output: asyncio.StreamReader) -> None:
        async for line in output:
            self._say(f"{server.name} | {line.decode('utf-8', 'replace').rstrip()}")


def _leash() -> tuple[str, ...]:
    """The prefix of a command whose program gets SIGTERM when this process ends."""
    if not sys.platform.startswith("linux"):
        return ()
    return (sys.executable, "-ISc", _LEASH, str(os.getpid()))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop a server and its workers (a process group): SIGTERM, then SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await _ended(process)
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _ended(process: asyncio.subprocess.Process) -> int:
    """The exit code. `Process.wait` would also wait for workers that still hold its output open."""
    while process.returncode is None:
        await asyncio.sleep(_POLL / 5)
    return process.returncode
