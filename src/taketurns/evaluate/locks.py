"""Files that one process writes at a time.

The lock belongs to the process: whatever ends it, kill -9 included, frees the file.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

LOOK_AGAIN = 0.5  # seconds


@asynccontextmanager
async def locked(path: Path, *, wait: bool) -> AsyncIterator[bool]:
    """Hold `path` against other processes; without `wait`, what is yielded says whether it was
    free."""
    with path.with_name(path.name + ".lock").open("w") as file:
        held = _take(file.fileno())
        while wait and not held:
            await asyncio.sleep(LOOK_AGAIN)
            held = _take(file.fileno())
        yield held


def _take(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
