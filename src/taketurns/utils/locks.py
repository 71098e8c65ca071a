"""Locks, so that only one process at a time writes a file.

A lock is an empty file beside the locked one, `.NAME.taketurns-lock`, removed when no process holds
it. It ends with its process, even after kill -9. For a symbolic link the lock is that of the file
that the link points to.
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
    """Lock `path`, if the file system has locks. Raises DataError if another process holds the
    lock."""
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
    """Wait until `path` is free, then lock it. Raises DataError if it cannot be written."""
    while (release := _take(path)) is None:
        time.sleep(LOOK_AGAIN)
    try:
        yield
    finally:
        release()


@asynccontextmanager
async def lock_async(path: Path, *, wait: bool) -> AsyncIterator[bool]:
    """Lock `path`. Yields whether the lock is held; without `wait` it is not if another process
    holds it. Raises DataError if `path` cannot be written."""
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
    """Take the lock. Returns the function that releases it, None if another process holds it.
    Raises DataError if there can be no lock."""
    try:
        place = follow_link(path)
        beside = place.with_name(f".{place.name}{LOCK}")
        if not beside.parent.is_dir():  # filelock would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if beside.is_symlink():
            raise DataError(f"cannot write {path}: its lock {beside} is a link: remove the link")
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
        # Removed while held: a process that has opened it sees that it is gone and makes another.
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        lock.release()

    return release
