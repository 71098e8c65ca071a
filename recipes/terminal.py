"""Messages and exit codes of a script."""

from __future__ import annotations

import sys

import typer

from taketurns.cli.options import FAILED, MISTAKE
from taketurns.errors import TakeTurnsError, UsageError


def say(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


def run(app: typer.Typer, module: str) -> None:
    """Run the commands of `python -m module`. An error is printed as one sentence on standard
    error; the exit code is 2 for a user's mistake, else 1."""
    try:
        app(prog_name=f"python -m {module}")
    except TakeTurnsError as error:
        say(f"error: {error}")
        sys.exit(MISTAKE if isinstance(error, UsageError) else FAILED)
