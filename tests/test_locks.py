"""One process at a time, also where the lock is taken and left all the time."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

import taketurns
from taketurns.errors import DataError
from taketurns.utils.locks import lock_async, lock_now, lock_when_free

COUNT = """
import sys, time
from pathlib import Path
from taketurns.errors import DataError
from taketurns.utils.locks import lock_now

path, counted = Path(sys.argv[1]), 0
while counted < 200:
    try:
        with lock_now(path):
            path.write_text(str(int(path.read_text()) + 1))
        counted += 1
    except DataError:
        time.sleep(0.0001)
"""


def test_nobody_comes_between(tmp_path: Path) -> None:
    """Not even by another name of the same file."""
    path = tmp_path / "count"
    path.write_text("0")
    (tmp_path / "link").symlink_to(path)
    names = [path, tmp_path / "link", path]
    commands = [[sys.executable, "-c", COUNT, str(name)] for name in names]
    assert [one.wait(60) for one in [subprocess.Popen(command) for command in commands]] == [0] * 3
    assert path.read_text() == "600"
    assert {one.name for one in tmp_path.iterdir()} == {"count", "link"}


def test_where_nothing_can_be_written_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"cannot write .*: No such file"),
        lock_now(tmp_path / "no" / "out.jsonl"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    with lock_now(tmp_path / "out.jsonl"), lock_when_free(tmp_path / "out.jsonl"):
        pass
    assert not list(tmp_path.iterdir())


async def test_the_lock_has_a_name_of_ours_and_touches_no_other(tmp_path: Path) -> None:
    """Fault: it was NAME.lock, which was emptied and removed."""
    mine, other = tmp_path / "uv.lock", tmp_path / "other"
    mine.write_text("version = 1")
    other.write_text("elsewhere")
    (tmp_path / "out.lock").symlink_to(other)
    for name in ("uv", "out"):
        with lock_now(tmp_path / name):
            assert (tmp_path / f".{name}.taketurns-lock").exists()
        async with lock_async(tmp_path / name, wait=False) as held:
            assert held
    assert (mine.read_text(), other.read_text()) == ("version = 1", "elsewhere")
    assert {one.name for one in tmp_path.iterdir()} == {"uv.lock", "other", "out.lock"}


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("elsewhere")
    (tmp_path / ".out.taketurns-lock").symlink_to(tmp_path / "other")
    with pytest.raises(
        DataError, match=r"its lock .*\.out\.taketurns-lock is a link: remove the link"
    ):
        lock_now(tmp_path / "out").__enter__()
    assert (tmp_path / "other").read_text() == "elsewhere"


def test_nothing_needs_what_only_unix_has() -> None:
    source = Path(taketurns.__file__).parent
    assert not [path for path in source.rglob("*.py") if "import fcntl" in path.read_text()]
