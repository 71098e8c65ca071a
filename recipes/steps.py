"""A series of steps, each with one output; existing outputs are not made again.

So the same command continues after a stop, and several commands with different patterns may run at
the same time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from taketurns.runs.manifest import path_for

TO_OUTPUT = ("cat", "head")  # commands that write to standard output


@dataclass(frozen=True, slots=True)
class Step:
    """A step that makes `output` with a `command`, or with `make` in this process."""

    name: str
    command: tuple[str, ...]
    output: Path
    make: Callable[[], object] | None = None

    @property
    def done(self) -> bool:
        """Does the output exist, and is it complete? Stopped rollouts are marked in their
        manifest."""
        manifest = path_for(self.output)
        stopped = manifest.exists() and not json.loads(manifest.read_text("utf-8"))["finished"]
        return self.output.exists() and not stopped

    def perform(self) -> float:
        """Make the output, which appears when it is complete, and return the seconds. Raises
        CalledProcessError if the command fails."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        if self.make is not None:
            self.make()
        elif self.command[0] in TO_OUTPUT:
            done = subprocess.run(self.command, check=True, capture_output=True)
            self.output.write_bytes(done.stdout)
        else:
            run_command(self.command)
        return time.monotonic() - began


def run_command(command: Iterable[object], **options: Any) -> float:
    """Run a command and return its seconds; `taketurns` is that of this Python. `options` are those
    of `subprocess.run`. Raises CalledProcessError if the command fails."""
    words = list(map(str, command))
    if words[0] == "taketurns":
        words[:1] = [sys.executable, "-m", "taketurns"]
    began = time.monotonic()
    subprocess.run(words, check=True, **options)
    return time.monotonic() - began


def step_options(description: str | None) -> argparse.ArgumentParser:
    """The command line of a series: its folder and the selection of its steps."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="+", default=["*"], help="step names, with wildcards")
    parser.add_argument(
        "--list", action="store_true", help="list the steps and which are done, and stop"
    )
    return parser


def perform_steps(steps: Iterable[Step], options: argparse.Namespace) -> None:
    """Make the missing outputs, or list them, in order. A step is requested when those before it
    are done, so `steps` may read their outputs."""
    for step in steps:
        if not any(fnmatch(step.name, pattern) for pattern in options.only):
            continue
        if options.list:
            print("done" if step.done else "    ", step.name, *step.command)
        elif not step.done:
            print(f"{step.name}: {step.perform():.0f} s", flush=True)
