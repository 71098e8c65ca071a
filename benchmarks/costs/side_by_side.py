"""The units of the table in several processes at a time, each with its share of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.costs.rows import read_lines
from benchmarks.costs.units import Unit


def deal(units: Sequence[Unit], processes: int) -> list[list[Unit]]:
    """The units of each process: the longest first, each to the process that has least to do."""
    parts: list[list[Unit]] = [[] for _ in range(processes)]
    for unit in sorted(units, key=lambda unit: -unit.seconds):
        min(parts, key=lambda part: sum(other.seconds for other in part)).append(unit)
    return [sorted(part, key=units.index) for part in parts if part]


def run_side_by_side(
    units: Sequence[Unit], processes: int, arguments: Sequence[str], out: Path | None
) -> list[dict[str, Any]]:
    """Measure the units by `benchmarks.costs.table` with further `arguments`. Returns the records
    of the rows, in the order of the units. Raises CalledProcessError if a process fails.

    Each process writes a file beside `out`; one that is stopped leaves its rows there, with `.part`
    at the end of the name."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    records = list[dict[str, Any]]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory())) if out is None else out.parent
        running = list[tuple[subprocess.Popen[bytes], Path]]()
        for number, part in enumerate(deal(units, processes), 1):
            path = folder / f"{'table' if out is None else out.name}.{number}"
            names = (unit.name for unit in part)
            command = (sys.executable, "-m", "benchmarks.costs.table", *arguments,
                       "--out", str(path), "--only", *names)  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
            stack.callback(_stop, process)
            running.append((process, path))
        for process, path in running:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)
            records += read_lines(path)
        for _, path in running:
            path.unlink()
    order = [unit.name for unit in units]
    return sorted(records, key=lambda record: order.index(record["row"]["unit"]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
