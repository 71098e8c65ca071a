"""What taking turns costs beside one model, measured in one run: `make bench`.

    python -m benchmarks.costs.table --out runs/bench/table.jsonl
    python -m benchmarks.costs.table --list                  # the units
    python -m benchmarks.costs.table --only memory           # one group
    python -m benchmarks.costs.table --only memory-8x256     # one unit
    python -m benchmarks.costs.table --quick                 # does it run at all? (a minute)

With `--processes 2` two units are measured at a time, one on each half of the cores. A unit gets a
part of the time limit, and runs fewer rounds if not all fit into it. Once the limit
is reached, the rows that are missing are left out with the reason. The table goes to standard
output, progress to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TextIO

import torch

from benchmarks.costs import adapters, by_shape, large, memory
from benchmarks.costs.budget import Budget
from benchmarks.costs.report import rows_table
from benchmarks.costs.rows import Row, row_from_json, write_rows
from benchmarks.costs.shapes import SHAPES, Shapes
from benchmarks.costs.side_by_side import run_side_by_side
from benchmarks.costs.units import Say, Setting, Unit, progress, select
from benchmarks.overhead.setup import describe_setup
from taketurns.evaluation.stopwatch import CLOCKS

# The units whose processes cannot be shortened come last, so that they take no other unit's time.
UNITS = (
    Unit(large.GROUP, 1, 256, 3, 90),
    Unit(large.GROUP, 8, 256, 3, 400),
    Unit(adapters.GROUP, 8, 128, 1, 200),
    Unit(by_shape.GROUP, 1, 200, 3, 95),
    Unit(by_shape.GROUP, 8, 100, 3, 250),
    Unit(by_shape.GROUP, 32, 64, 3, 330),
    Unit(memory.GROUP, 1, 256, 1, 40),
    Unit(memory.GROUP, 8, 256, 1, 110),
    Unit(memory.GROUP, 8, 1024, 1, 740),
)
QUICK = (
    Unit(large.GROUP, 1, 24, 1, 5),
    Unit(adapters.GROUP, 2, 24, 1, 5),
    Unit(by_shape.GROUP, 1, 24, 1, 20),
    Unit(by_shape.GROUP, 2, 24, 1, 20),
    Unit(memory.GROUP, 1, 24, 1, 20),
)
Measure = Callable[[Sequence[Unit], Setting, Budget, Say], Iterator[Row]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    chosen = _parser().parse_args(arguments)
    units = select(QUICK if chosen.quick else UNITS, chosen.only)
    if not units:
        sys.exit(f"--only: no unit fits {' '.join(chosen.only)}; --list shows them")
    if chosen.list:
        for unit in units:
            print(f"{unit.name}\tup to {unit.rounds} rounds, about {unit.seconds:.0f} s")
        return
    setup = describe_setup(torch.device("cpu"), "float32") | {
        "clock": chosen.clock,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    with open_draft(chosen.out) as draft:
        if chosen.processes > 1 and len(units) > 1:
            records = run_side_by_side(units, chosen.processes, _passed_on(chosen), chosen.out)
            setup |= {"threads": records[0]["setup"]["threads"], "processes": chosen.processes}
            measured = iter([row_from_json(record) for record in records])
        else:
            measured = _measure_here(units, chosen)
        rows = write_rows(measured, setup, draft)
    print(rows_table(rows, setup))


def _measure_here(units: Sequence[Unit], chosen: argparse.Namespace) -> Iterator[Row]:
    setting = Setting(size="tiny" if chosen.quick else "100m", clock=chosen.clock)
    shapes = {name: SHAPES[name] for name in chosen.shapes}
    return measure(units, setting, shapes, chosen.minutes, progress(chosen.minutes))


def _passed_on(chosen: argparse.Namespace) -> list[str]:
    """The options that each of several processes gets."""
    quick = ["--quick"] if chosen.quick else []
    minutes = ["--minutes", str(chosen.minutes), "--clock", chosen.clock]
    return [*quick, *minutes, "--shapes", *chosen.shapes]


@contextmanager
def open_draft(path: Path | None) -> Iterator[TextIO]:
    """A file for rows, which gets the name `path` when all are in it. A run that is stopped leaves
    its rows in the file with `.part` at the end. Without a path the rows go nowhere."""
    if path is None:
        yield StringIO()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        yield file
    draft.replace(path)


def measure(
    units: Sequence[Unit], setting: Setting, shapes: Shapes, minutes: float, say: Say
) -> Iterator[Row]:
    """The rows of all units, each as soon as it is measured; `say` gets the progress."""
    budget = Budget(60 * minutes, {unit.name: unit.seconds for unit in units})
    groups: Mapping[str, Measure] = {
        large.GROUP: large.large_rows,
        adapters.GROUP: adapters.adapter_rows,
        by_shape.GROUP: partial(by_shape.shape_rows, shapes),
        memory.GROUP: memory.memory_rows,
    }
    for name, rows in groups.items():
        if its := [unit for unit in units if unit.group == name]:
            expected = sum(unit.seconds for unit in its) / 60
            say(f"{name}: {len(its)} units, about {expected:.0f} min")
            yield from rows(its, setting, budget, say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.costs.table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], help="groups or units, with wildcards (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=20, help="the time limit (default: 20)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="cpu", help="processor time (default) or wall-clock time"
    )
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="measure so many units at a time, each on its share of the cores (default: 1)",
    )
    parser.add_argument("--out", type=Path, help="a file for the rows, as JSON lines")
    parser.add_argument("--quick", action="store_true", help="tiny models, short answers")
    parser.add_argument("--list", action="store_true", help="list the units and stop")
    return parser


if __name__ == "__main__":
    main()
