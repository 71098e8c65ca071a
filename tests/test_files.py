"""What is written is there whole or not at all, and nobody else's file is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest, path_for
from taketurns.runs.output import JsonlOutput, open_run, without_repeats
from taketurns.runs.records import encode_record
from taketurns.training.labels.labels import read_labels
from taketurns.utils.files import (
    DRAFT,
    atomic_file,
    atomic_folder,
    is_stream,
    names_in,
    require_room,
    write_bytes,
    write_text,
)

RUN = Manifest("test", {"input": "one"}, {}, "2026-01-01")


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o600
    assert list(real.parent.iterdir()) == [real]
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere" / "later")
    write_text(link, "made")
    assert (link.is_symlink(), link.read_text()) == (True, "made")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(DataError, match=r"cannot write .*round: Too many levels"):
        write_text(tmp_path / "round", "")


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    def fill(draft: Path) -> None:
        draft.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, parts())
    with pytest.raises(ZeroDivisionError), atomic_file(path) as draft:
        fill(draft)
    with pytest.raises(DataError, match=r"cannot write .*: a name or a path .*'\\ud800'"):
        write_text(path, "\ud800")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("file", "old")]
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "folder") as made:
        (made / "none").read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"cannot write .*pipe: it is not a regular file"):
        write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


def test_what_cannot_be_read_back(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "stdout").symlink_to("/dev/stdout")
    for name, stream in (("pipe", True), ("file", False), ("none", False), ("stdout", True)):
        assert is_stream(tmp_path / name) == stream, name
    assert is_stream(Path("/dev/full"))
    assert is_stream(Path("/dev/fd/1"))
    assert not is_stream(tmp_path)


def test_our_own_names_are_no_strangers(tmp_path: Path) -> None:
    for name in ("mine", ".mine", f".a{DRAFT}", ".b.jsonl.taketurns-lock", "c.lock"):
        (tmp_path / name).write_text("")
    assert names_in(tmp_path) == {"mine", ".mine", "c.lock"}


def test_a_full_disk_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000_000))
    require_room(tmp_path, 2_000_000_000, "it")
    with pytest.raises(DataError, match=r"has 2.0 GB free, but it may take 3.0 GB: free some"):
        require_room(tmp_path, 3_000_000_000, "it")


def write_all(path: Path, *ids: str) -> None:
    with open_run(path, RUN) as output:
        for one in ids:
            if one not in output.kept:
                output.write({"id": one})
        output.order(ids)


def test_files_beside_the_output_are_left_alone(tmp_path: Path) -> None:
    """Fault: an output called `uv` emptied and removed the user's own uv.lock."""
    others = {
        name: f"the user's {name}" for name in ("uv.lock", "uv.draft", "uv.manifest.json.draft")
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "precious").write_text("truncated before")
    (tmp_path / "out.lock").symlink_to(tmp_path / "precious")
    write_all(tmp_path / "uv", "b", "a")
    write_all(tmp_path / "uv", "a", "b")  # is brought into another order
    write_all(tmp_path / "out", "a")
    assert {name: (tmp_path / name).read_text() for name in others} == others
    assert (tmp_path / "precious").read_text() == "truncated before"
    assert (tmp_path / "out.lock").is_symlink()
    assert (tmp_path / "uv").read_bytes() == encode_record({"id": "a"}) + encode_record({"id": "b"})
    assert not list(tmp_path.glob(".*"))


def test_a_manifest_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    foreign = path_for(tmp_path / "app")
    for text in ('{"manifest_version": 3}', "no JSON"):
        foreign.write_text(text)
        with pytest.raises(DataError, match=r"app.manifest.json is not a manifest of taketurns"):
            write_all(tmp_path / "app", "a")
        assert foreign.read_text() == text
        assert not (tmp_path / "app").exists()
    RUN.write(tmp_path / "app")  # that of an output which was removed
    write_all(tmp_path / "app", "a")


def test_an_output_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """Fault: going on put a file in the link's place, and the records went elsewhere."""
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "out.jsonl", tmp_path / "out.jsonl"
    link.symlink_to(real)
    write_all(link, "b")
    with link.open("ab") as file:
        file.write(b'{"id": "torn')
    write_all(link, "a", "b")
    assert link.is_symlink()
    assert real.read_bytes() == encode_record({"id": "a"}) + encode_record({"id": "b"})
    assert list(real.parent.iterdir()) == [real]
    link.unlink()
    link.symlink_to(tmp_path / "disk" / "none.jsonl")
    with pytest.raises(ZeroDivisionError), open_run(link, RUN):
        raise ZeroDivisionError  # before the first record: nothing stays, but the link
    assert link.is_symlink()
    assert not link.exists()


def test_a_pipe_gets_records_as_they_come(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_all(tmp_path / "pipe", "a", "b")
    reader.join(10)
    assert read == [encode_record({"id": "a"}) + encode_record({"id": "b"})]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


STREAM = """
import resource, sys
from pathlib import Path
from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import open_run

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    with open_run(Path(sys.argv[1]), Manifest("test", {}, {}, "")) as output:
        for number in range(3):
            output.write({"id": str(number)})
except DataError as error:
    print(error, file=sys.stderr)
"""


def stream(where: str, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STREAM, where]
    return subprocess.run(command, text=True, timeout=60, check=True, **settings)  # type: ignore[call-overload, no-any-return]


def test_standard_output_by_its_name_is_not_read_back(tmp_path: Path) -> None:
    """Fault: it was taken up as an older output, and a manifest was made beside it."""
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("a") as log:
        stream("/dev/stdout", stdout=log)
    wanted = "".join(encode_record({"id": one}).decode() for one in "012")
    assert (tmp_path / "log").read_text() == "before\n" + wanted
    assert list(tmp_path.iterdir()) == [tmp_path / "log"]
    assert stream("/dev/stdout", stdout=subprocess.PIPE).stdout == wanted


def test_a_full_device_is_a_sentence_and_takes_no_memory() -> None:
    """Fault: /dev/full was read back, which has no end."""
    said = stream("/dev/full", stderr=subprocess.PIPE).stderr
    assert said == "cannot write /dev/full: No space left on device\n"


def test_a_record_that_is_there_twice_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    RUN.write(path)
    rows = [("a", 1), ("b", 2), ("a", 3), ("c", None), ("b", 4)]
    path.write_bytes(
        b"".join(
            encode_record({"id": i, "n": n, "error": None if n else "failed"}) for i, n in rows
        )
    )
    with path.open("ab") as file:
        file.write(b'{"id": "d"')
    with JsonlOutput(path) as output:
        assert output.kept == {"a", "b"}
    kept = [encode_record({"id": i, "n": n, "error": None}) for i, n in rows[:2]]
    assert path.read_bytes() == b"".join(kept)


def test_readers_take_the_first_whole_record_of_an_id() -> None:
    records = [
        {"id": "a", "error": "lost"},
        {"id": "a", "n": 1},
        {"id": "a", "n": 2},
        {"n": 3},
        {"n": 3},
        {"id": "a", "error": "lost again"},
    ]
    assert list(without_repeats(records)) == [records[0], records[1], records[3], records[4]]


def test_labels_that_are_there_twice_count_once(tmp_path: Path) -> None:
    patch = {
        "speaker": 0, "token_ids": [1], "text": "x", "finish": "length", "reason": "chosen",
        "probabilities": None, "timing": {"decide": 0.1, "write": 0.2},
    }  # fmt: skip
    label = {
        "schema": "taketurns.rollouts/1", "id": "q#0", "task": "t", "candidates": ["a", "b"],
        "query": {"id": "q", "text": "?"}, "prefix": [patch],
        "branches": [{"speaker": i, "utilities": [float(i)]} for i in range(2)],
    }  # fmt: skip
    slower = label | {"prefix": [patch | {"timing": {"decide": 0.3, "write": 0.4}}]}
    other = label | {"branches": [{"speaker": i, "utilities": [0.5]} for i in range(2)]}
    path = tmp_path / "labels.jsonl"
    path.write_bytes(encode_record(label) + encode_record(slower))
    assert [one.id for one in read_labels(path, ["a", "b"])] == ["q#0"]
    path.write_bytes(encode_record(label) + encode_record(other))
    with pytest.raises(
        DataError, match="is already in line 1, with other values; run the taketurns"
    ):
        list(read_labels(path, ["a", "b"]))
