"""The command line without standard streams, and with a reader who leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taketurns.cli.streams import ClosedStream
from taketurns.errors import UsageError

COMMAND = [sys.executable, "-m", "taketurns"]
HOLD = """
import sys
from pathlib import Path
from taketurns.cli.streams import hold_streams
hold_streams()
with Path(sys.argv[1]).open("w") as file:
    file.write(str(file.fileno()))
print("some library's words")
"""


def run(*arguments: str, close: int | None = None, **streams: int) -> tuple[int, str, str]:
    """The command with the standard stream of this number closed."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        text=True,
        check=False,
        preexec_fn=None if close is None else lambda: os.close(close),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},  # type: ignore[call-overload]
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_output_is_a_sentence() -> None:
    code, _, err = run("tasks", close=1)
    assert code == 2
    assert err == (
        "taketurns: standard output is closed: start the command with it, or name a file instead\n"
    )


def test_a_closed_input_is_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = run("generate", "--team", "pocket", "-i", "-", "-o", str(out), close=0)
    assert (code, out.exists()) == (2, False)
    assert err.startswith("taketurns: standard input is closed: ")
    assert len(err.splitlines()) == 1


def test_without_its_error_stream_a_command_does_the_same() -> None:
    code, out, _ = run("tasks", close=2)
    assert (code, "recall" in out) == (0, True)
    assert run("check", "--team", "nope", close=2)[0] == 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_who_leaves_is_no_traceback(stream: str) -> None:
    """Before the first word, which is the worst time."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = ["tasks"] if stream == "stdout" else ["check", "--team", "nope"]
    try:
        code, out, err = run(*command, **{stream: theirs})
    finally:
        os.close(theirs)
    assert (code, out or "", err or "") == (1 if stream == "stdout" else 2, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_output_that_is_full_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        code, _, err = run("tasks", stdout=full.fileno())
    assert code == 1
    assert err == "taketurns: cannot read or write a stream: No space left on device\n"


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints would end in it."""
    path = tmp_path / "file"
    subprocess.run(
        [sys.executable, "-c", HOLD, str(path)],
        preexec_fn=lambda: os.closerange(0, 3),
        check=False,
    )
    assert int(path.read_text()) > 2


def test_a_closed_stream_refuses_whatever_is_asked_of_it() -> None:
    stream = ClosedStream("input")
    assert not stream.isatty()
    for ask in (stream.read, stream.readline, lambda: stream.buffer, lambda: next(stream)):
        with pytest.raises(UsageError, match="standard input is closed"):
            ask()
