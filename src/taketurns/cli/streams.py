"""The standard streams of a program that was started without them, or whose reader has gone."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from taketurns.errors import UsageError


class ClosedStream(io.TextIOBase):
    """Replaces a standard stream that was closed at the program's start: reading or writing raises
    UsageError."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def _refuse(self, *_: Any) -> NoReturn:
        raise UsageError(
            f"standard {self._name} is closed: start the command with it, or name a file instead"
        )

    write = read = readline = __next__ = _refuse
    buffer = property(_refuse)

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Do nothing; a wrapper may call it."""


def hold_streams() -> None:
    """Make sure that there are three standard streams. Otherwise the next opened file would get the
    number of a closed stream, and a library's output would go into that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = ClosedStream("input")
    if sys.stdout is None:
        sys.stdout = ClosedStream("output")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def flush_streams() -> None:
    """Flush the output. Raises OSError if that fails; the rest of the output is then dropped, so
    that Python does not report it again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop_streams()
            raise


def drop_streams() -> None:
    """Discard all further output."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
