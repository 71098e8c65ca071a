"""Peak memory beside the weights: a team over one model. Each variant runs in a process of its own,
so that no allocator's leftovers hide what another one takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import NO_TIME, Row, Spread, left_out, of_bytes
from benchmarks.costs.units import Say, Setting, Unit
from benchmarks.processes import PROC

GROUP = "memory"
VARIANTS_MEASURED = ("single", "kept", "kept_with_switcher")
AT_MOST: Mapping[str, tuple[str, float]] = {
    "memory: team / one": ("kept", 3.2),
    "memory: team + LM switcher / one": ("kept_with_switcher", 4.3),
}


def memory_rows(units: Sequence[Unit], setting: Setting, budget: Budget, say: Say) -> Iterator[Row]:
    """The rows of each unit. A process that would exceed the limit is stopped, and its rows are
    left out."""
    for unit in units:
        if not PROC.exists():
            yield from _left_out(unit, "the resident set is read from Linux' /proc")
            continue

        def run(variant: str, unit: Unit = unit) -> int:
            say(f"{unit.name}: {variant}")
            return _peak(variant, setting.size, unit, budget.left)

        runs: dict[str, Callable[[], int]] = {
            variant: partial(run, variant) for variant in VARIANTS_MEASURED
        }
        try:
            rounds = interleave(runs, budget.part(unit.name), unit.rounds, left=budget.left)
        except subprocess.TimeoutExpired:
            rounds = []
        yield from _rows(unit, rounds) if rounds else _left_out(unit, NO_TIME)


def _rows(unit: Unit, rounds: Sequence[Mapping[str, int]]) -> Iterator[Row]:
    for what, (variant, at_most) in AT_MOST.items():
        peaks = {name: median(round_[name] for round_ in rounds) for name in (variant, "single")}
        yield Row(
            unit.name,
            what,
            unit.batch,
            unit.tokens,
            len(rounds),
            Spread.of([round_[variant] / round_["single"] for round_ in rounds]),
            at_most=at_most,
            note=of_bytes(peaks[variant], peaks["single"]),
            measured={f"{name}_bytes": peak for name, peak in peaks.items()},
        )


def _left_out(unit: Unit, why: str) -> Iterator[Row]:
    for what in AT_MOST:
        yield left_out(unit.name, what, unit.batch, unit.tokens, why)


def _peak(variant: str, size: str, unit: Unit, seconds: float) -> int:
    """Bytes. Raises TimeoutExpired after `seconds`, and CalledProcessError."""
    where = ("--size", size, "--batch", str(unit.batch), "--tokens", str(unit.tokens))
    command = (sys.executable, "-m", "benchmarks.costs.peak", variant, *where)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=max(seconds, 1.0)
    )
    return int(json.loads(done.stdout)["peak_bytes"])
