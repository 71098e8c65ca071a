"""The cost of taking turns as answers grow: all measurements of `length`, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.overhead.chains import EDGES, Chain
from benchmarks.overhead.chains import measure as measure_chains
from benchmarks.overhead.memory import settled
from benchmarks.overhead.models import random_pool
from benchmarks.overhead.overhead import Overhead, measure, warm_up
from benchmarks.overhead.setup import describe_setup
from benchmarks.overhead.workload import Workload

VARIANTS = ("single", "kept", "kept_with_switcher")
ROOM = 4096  # for the prompt, and the switcher's tags and question


@dataclass(frozen=True, slots=True)
class Lengths:
    """Speed by length for random models, quality by length for the bundled ones."""

    setup: dict[str, str | int]
    speeds: tuple[Overhead, ...]
    chains: tuple[Chain, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """One JSON object per length of each; all contain the set-up."""
        measured: tuple[Overhead | Chain, ...] = (*self.speeds, *self.chains)
        return [{**part.to_json(), "setup": self.setup} for part in measured]


def run(
    workloads: Sequence[Workload],
    shape: str,
    repeats: int,
    steps: Sequence[int],
    questions: int,
    say: Callable[[str], None],
) -> Lengths:
    """Measure; `say` gets progress messages. Raises UsageError for an unknown shape."""
    longest = max(workload.tokens for workload in workloads)
    with random_pool(shape, context=2 * longest + ROOM) as pool:
        pool.load()
        setup = describe_setup(pool.device, pool.dtype)
        with settled():
            warm_up(pool, workloads[0].batch)
            speeds = []
            for workload in workloads:
                say(f"{pool.name}, {workload.tokens} tokens")
                speeds.append(measure(pool, workload, repeats, VARIANTS))
    chains = measure_chains(steps, questions, say) if questions else []
    return Lengths(setup, tuple(speeds), tuple(chains))


def show(console: Console, lengths: Lengths) -> None:
    """Print a table of each."""
    console.print(_speeds(lengths.speeds))
    if lengths.chains:
        console.print(_chains(lengths.chains))


def _speeds(speeds: Sequence[Overhead]) -> Table:
    first = speeds[0]
    title = f"{first.models}: batch {first.workload.batch}, seconds by the {first.workload.clock}"
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("tokens", "one model", "team", "x one", "+ LM switcher", "x one"):
        table.add_column(heading, justify="right")
    for overhead in speeds:
        took, ratios = overhead.seconds, overhead.ratios
        table.add_row(
            str(overhead.workload.tokens),
            f"{took['single']:.3g}",
            f"{took['kept']:.3g}",
            f"{ratios['kept_over_single']:.2f}",
            f"{took['kept_with_switcher']:.3g}",
            f"{ratios['kept_with_switcher_over_single']:.2f}",
        )
    return table


def _chains(chains: Sequence[Chain]) -> Table:
    parts = [part for chain in chains for part in chain.shares if part is not None]
    names = list(dict.fromkeys(name for part in parts for name in part))
    table = Table(title="pocket: problems with more and more steps", title_justify="left", box=None)
    for heading in ("steps", "who", "steps right", "all right", "tokens"):
        table.add_column(heading, justify="left" if heading == "who" else "right")
    for first, end in pairwise(EDGES):
        table.add_column(f"{first}-{end}", justify="right")
    for chain in chains:
        wrote = [
            "" if part is None else "/".join(f"{100 * part.get(name, 0):.0f}" for name in names)
            for part in chain.shares
        ]
        right = f"{chain.right:.2f} ({chain.low:.2f}-{chain.high:.2f})"
        row = (str(chain.steps), chain.who, right, f"{chain.whole:.2f}", f"{chain.tokens:.0f}")
        table.add_row(*row, *wrote)
    table.caption = f"tokens of the answer from-to: per cent by {'/'.join(names)}"
    return table
