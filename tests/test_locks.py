"""One process at a time, also where the lock is taken and left all the time."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from taketurns.errors import DataError
from taketurns.locks import alone

COUNT = """
import sys, time
from pathlib import Path
from taketurns.errors import DataError
from taketurns.locks import alone

path, counted = Path(sys.argv[1]), 0
while counted < 200:
    try:
        with alone(path):
            path.write_text(str(int(path.read_text()) + 1))
        counted += 1
    except DataError:
        time.sleep(0.0001)
"""


def test_nobody_comes_between(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    command = [sys.executable, "-c", COUNT, str(path)]
    assert [one.wait(60) for one in [subprocess.Popen(command) for _ in range(3)]] == [0, 0, 0]
    assert path.read_text() == "600"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"cannot write .*: No such file"),
        alone(tmp_path / "no" / "out.jsonl"),
    ):
        pass


def test_a_file_system_without_locks_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone(tmp_path / "out.jsonl"):
        pass
    assert not list(tmp_path.iterdir())
