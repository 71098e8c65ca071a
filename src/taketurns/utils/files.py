"""Atomic writes: a file is there completely or not at all, and no file of the user's is touched.

A file is first written as a draft beside its place, under a name that only this package uses
(`.NAME.….taketurns-draft`), and then moved to its place in one step. A write to a symbolic link
replaces the file that the link points to; the link stays.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from taketurns.errors import DataError

DRAFT, LOCK = ".taketurns-draft", ".taketurns-lock"
_DESCRIPTORS = re.compile(r"/dev/fd|/proc/\d+(/task/\d+)?/fd")
_MOST_LINKS = 40


def follow_link(path: Path) -> Path:
    """The target of a symbolic link; any other path unchanged. Raises OSError for a loop of
    links."""
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields the path of a draft to write. It replaces `path` when the block ends, and is removed
    if the block fails. Raises OSError."""
    place = follow_link(path)
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}{DRAFT}")
    try:
        yield draft
        with suppress(FileNotFoundError):
            shutil.copymode(place, draft)
        draft.replace(place)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def write_bytes(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file atomically: at any moment either the old or the new file is there. Raises
    OSError."""
    with atomic_file(path) as draft, draft.open("xb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises DataError."""
    try:
        write_bytes(path, [text.encode("utf-8")])
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        raise DataError(
            f"cannot write {path}: a name or a path in it contains {wrong!r}, which UTF-8 cannot "
            "encode: rename that file or folder"
        ) from error


def make_folder(path: Path, *parts: str) -> set[str]:
    """Make a folder, with the folders `parts` in it. Returns the names that were in it before.
    Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = names_in(path)
        for part in parts:
            (path / part).mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {path}: {error.strerror}") from error
    return names


def names_in(folder: Path) -> set[str]:
    """The names in a folder, without the locks and drafts of this package. Raises OSError."""
    return {
        path.name
        for path in folder.iterdir()
        if not (path.name.startswith(".") and path.name.endswith((DRAFT, LOCK)))
    }


def remove_drafts(path: Path) -> None:
    """Remove drafts of `path` left by killed processes. The caller must hold the lock of `path`."""
    place = follow_link(path)
    for left in place.parent.glob(f".{glob.escape(place.name)}.{'[0-9a-f]' * 8}{DRAFT}"):
        left.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill. It becomes `folder` when the block ends. It is removed if the
    block fails, or by the next call for `folder`. With `replace` an existing folder is removed
    first. Raises OSError, without `replace` also if `folder` is not empty."""
    draft = folder.with_name(f".{folder.name}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def trial_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder under `folder`, for a trial of what will be written there later.
    Raises OSError."""
    with TemporaryDirectory(prefix=".trial-", suffix=DRAFT, dir=folder) as made:
        yield Path(made)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise DataError if a folder's disk has less than `needed` bytes free, which `what` takes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, but {what} may take "
            f"{needed / 1e9:.1f} GB: free some space, or choose another output"
        )


def is_stream(path: Path) -> bool:
    """True for a pipe, a terminal or another device, and for this process's standard output under
    any name: such output cannot be read back. Raises DataError for a disk."""
    if _is_descriptor(path):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode):
        raise DataError(f"cannot write {path}: it is a disk: give the path of a file")
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_descriptor(path: Path) -> bool:
    """True for /dev/stdout and similar paths, which are regular files if redirected to one."""
    for _ in range(_MOST_LINKS):
        if _DESCRIPTORS.fullmatch(os.path.realpath(path.parent)):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False
