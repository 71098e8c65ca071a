"""Files that are there whole or not at all, written without touching what is somebody else's.

What is written is a draft first, beside its place and under a name that only this package gives
(`.NAME.….taketurns-draft`), and takes the place in one step. A symbolic link is written through:
what it points to is replaced, and the link stays.
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
    """Where a symbolic link leads; any other path itself. Raises OSError for links that lead to
    themselves."""
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The name of a draft to write, which takes the place of `path` when the block ends and is
    removed if the block fails. Raises OSError."""
    place = follow_link(path)
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
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
    """Write a file at once: at any moment either the old or the new one is there. Raises
    OSError."""
    with atomic_file(path) as draft, draft.open("xb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text at once. Raises DataError."""
    try:
        write_bytes(path, [text.encode("utf-8")])
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        raise DataError(
            f"cannot write {path}: a name or a path in it holds {wrong!r}, which UTF-8 cannot say; "
            "rename what has it"
        ) from error


def make_folder(path: Path, *parts: str) -> set[str]:
    """Make a folder, and these folders in it; the names that were in it. Raises DataError."""
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
    """Remove the drafts of `path` that killed processes left. Only who holds its lock may."""
    place = follow_link(path)
    for left in place.parent.glob(f".{glob.escape(place.name)}.{'[0-9a-f]' * 8}{DRAFT}"):
        left.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` when the block ends and is removed if the
    block fails, or by the next that makes `folder`. With `replace` an older one makes room. Raises
    OSError, without `replace` also where `folder` holds something."""
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
    """A folder under `folder` to try in what will be written there; it is gone when the block ends.
    Raises OSError."""
    with TemporaryDirectory(prefix=".trial-", suffix=DRAFT, dir=folder) as made:
        yield Path(made)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise DataError where a folder's disk has no room for so many bytes, which `what` takes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free and {what} may take {needed / 1e9:.1f} GB: "
            "free some, or choose another output"
        )


def is_stream(path: Path) -> bool:
    """True for a pipe, a terminal or another device, and for this process's own standard output
    under whichever name: what is written there cannot be read back. Raises DataError for a disk."""
    if _is_descriptor(path):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode):
        raise DataError(f"cannot write {path}: it is a disk; name a file")
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_descriptor(path: Path) -> bool:
    """True for /dev/stdout and its like, which are regular files where they are redirected."""
    for _ in range(_MOST_LINKS):
        if _DESCRIPTORS.fullmatch(os.path.realpath(path.parent)):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False
