"""Files that one process writes at a time.

A lock is an empty file of its own beside the other, `.NAME.taketurns-lock`, which is gone when no
process holds it. It belongs to the process: whatever ends that, kill -9 included, frees it. Behind
a symbolic link the lock is that of the file that the link points to.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from taketurns.errors import DataError
from taketurns.utils.files import LOCK, follow_link

LOOK_AGAIN = 0.5  # seconds
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}

_Release = Callable[[], None]


@contextmanager
def lock_now(path: Path) -> Iterator[None]:
    """Hold `path` against other processes, where the file system has locks. Raises DataError if one
    is at it."""
    release = _take(path)
    if release is None:
        raise DataError(
            f"{path} is being written by another process; wait until it is done, or choose another "
            "output"
        )
    try:
        yield
    finally:
        release()


@contextmanager
def lock_when_free(path: Path) -> Iterator[None]:
    """Hold `path` against other processes as soon as it is free. Raises DataError where it cannot
    be written."""
    while (release := _take(path)) is None:
        time.sleep(LOOK_AGAIN)
    try:
        yield
    finally:
        release()


@asynccontextmanager
async def lock_async(path: Path, *, wait: bool) -> AsyncIterator[bool]:
    """Hold `path` against other processes; without `wait`, what is yielded says whether it was
    free. Raises DataError where it cannot be written."""
    release = _take(path)
    while wait and release is None:
        await asyncio.sleep(LOOK_AGAIN)
        release = _take(path)
    try:
        yield release is not None
    finally:
        if release is not None:
            release()


def _take(path: Path) -> _Release | None:
    """What frees the lock, if it was free. Raises DataError where there can be none."""
    try:
        place = follow_link(path)
        beside = place.with_name(f".{place.name}{LOCK}")
        if not beside.parent.is_dir():  # which filelock would make
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if beside.is_symlink():
            raise DataError(f"cannot write {path}: {beside}, its lock, is a link; remove it")
        lock = FileLock(beside, fallback_to_soft=False)
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        if error.errno in NO_LOCKS:
            beside.unlink(missing_ok=True)
            return lambda: None
        raise DataError(f"cannot write {path}: {error.strerror}") from error

    def release() -> None:
        # While it is held: who opened it meanwhile sees that it is gone and makes another.
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        lock.release()

    return release
