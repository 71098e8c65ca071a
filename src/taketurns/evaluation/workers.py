"""More processes for one evaluation.

Each runs the same command on the same folder and takes methods that no other process runs. Small
models use one core, so n processes on n cores are about n times as fast.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

ANSWERS_ONLY = "--answers-only"


@contextmanager
def helpers(count: int, arguments: Sequence[str]) -> Iterator[None]:
    """Run `count` helping processes during this block; an error in it stops them."""
    command = [sys.executable, "-m", "taketurns", "evaluate", *arguments, ANSWERS_ONLY]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.wait()


@asynccontextmanager
async def helping() -> AsyncIterator[None]:
    """End this process when the process that it helps has ended."""
    watching = asyncio.create_task(_watch(os.getppid()))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
