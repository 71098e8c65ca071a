"""Files that one process writes at a time.

The lock belongs to the process: whatever ends it, kill -9 included, frees the file. It is a file of
its own beside the other, which is gone when nobody holds it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from taketurns.errors import DataError

LOOK_AGAIN = 0.5  # seconds
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold `path` against other processes, where the file system has locks. Raises DataError if one
    is at it."""
    beside = _beside(path)
    try:
        file = _take(beside)
    except OSError as error:
        if error.errno in NO_LOCKS:
            yield
            return
        raise DataError(f"cannot write {path}: {error.strerror}") from error
    if file is None:
        raise DataError(
            f"{path} is being written by another process; wait until it is done, or choose another "
            "output"
        )
    try:
        yield
    finally:
        _free(beside, file)


@asynccontextmanager
async def locked(path: Path, *, wait: bool) -> AsyncIterator[bool]:
    """Hold `path` against other processes; without `wait`, what is yielded says whether it was
    free."""
    beside = _beside(path)
    file = _take(beside)
    while wait and file is None:
        await asyncio.sleep(LOOK_AGAIN)
        file = _take(beside)
    try:
        yield file is not None
    finally:
        if file is not None:
            _free(beside, file)


def _beside(path: Path) -> Path:
    return path.parent / (path.name + ".lock")


def _take(beside: Path) -> IO[str] | None:
    """The lock if it was free. Raises OSError where there can be none."""
    while True:
        file = beside.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), beside.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        except OSError:
            _free(beside, file)
            raise
        file.close()  # whoever held it has removed it since it was opened


def _free(beside: Path, file: IO[str]) -> None:
    beside.unlink(missing_ok=True)
    file.close()
