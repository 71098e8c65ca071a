"""The standard streams of a program that may have been started without them, or whose reader
leaves."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from taketurns.errors import UsageError


class ClosedStream(io.TextIOBase):
    """In place of a standard stream that was closed when the program began: reading or writing
    raises UsageError."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def _refuse(self, *_: Any) -> NoReturn:
        raise UsageError(
            f"standard {self._name} is closed; start the command with it, or name a file instead"
        )

    write = read = readline = __next__ = _refuse
    buffer = property(_refuse)

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is there to be closed, and what wraps it may try."""


def hold_streams() -> None:
    """Make sure that there are three standard streams. The number of one that is closed would go to
    the next file that is opened, and what a library prints would end in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = ClosedStream("input")
    if sys.stdout is None:
        sys.stdout = ClosedStream("output")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def flush_streams() -> None:
    """Write out what is held back. Raises OSError where that fails; what is left then is dropped,
    so that Python does not complain of it once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop_streams()
            raise


def drop_streams() -> None:
    """Lead the output nowhere from here on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
