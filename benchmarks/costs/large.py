"""The Llamas of 97M parameters: time beside one model, the floor and fast rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import NO_TIME, Row, Spread, left_out, of_seconds
from benchmarks.costs.units import Say, Setting, Unit
from benchmarks.overhead.floor import Rates, team_work
from benchmarks.overhead.memory import settled
from benchmarks.overhead.models import ModelPool, random_pool
from benchmarks.overhead.overhead import switcher_work_of, warm_up
from benchmarks.overhead.rates import measure_rates
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.workload import Workload

GROUP = "large"
VARIANTS_TIMED = ("single", "kept", "kept_with_switcher", "deterministic")
RATIOS: Mapping[str, tuple[str, str]] = {
    "team / one": ("kept", "single"),
    "team + LM switcher / one": ("kept_with_switcher", "single"),
    "team / floor": ("kept", "floor"),
    "team + LM switcher / floor": ("kept_with_switcher", "floor_with_switcher"),
    "exact / fast rounds": ("deterministic", "kept"),
}

Seconds = Mapping[str, float]


def large_rows(units: Sequence[Unit], setting: Setting, budget: Budget, say: Say) -> Iterator[Row]:
    """The rows of each unit."""
    with random_pool(setting.size, "cpu", "float32") as pool, settled():
        for unit in units:
            workload = Workload(unit.batch, unit.tokens, clock=setting.clock)
            if budget.left > 0:
                say(f"{unit.name}: warming up")
                pool.load()
                warm_up(pool, unit.batch, VARIANTS_TIMED)
            yield from _rows(pool, workload, unit, budget, say)


def _rows(
    pool: ModelPool, workload: Workload, unit: Unit, budget: Budget, say: Say
) -> Iterator[Row]:
    """The floor is measured once, by rates that are medians of several runs themselves."""

    def run(name: str) -> float:
        say(f"{unit.name}: {name}")
        return VARIANTS[name](pool, workload).seconds

    runs: dict[str, Callable[[], float]] = {name: partial(run, name) for name in VARIANTS_TIMED}
    rounds = interleave(runs, budget.part(unit.name), unit.rounds, left=budget.left)
    if not rounds:
        for what in RATIOS:
            yield left_out(unit.name, what, unit.batch, unit.tokens, NO_TIME)
        return
    say(f"{unit.name}: floor")
    floors = _floors(pool, workload)
    for what, (above, below) in RATIOS.items():
        timed = [{**floors, **round_} for round_ in rounds]
        seconds_of = {name: median(round_[name] for round_ in timed) for name in (above, below)}
        yield Row(
            unit.name,
            what,
            unit.batch,
            unit.tokens,
            len(timed),
            Spread.of([round_[above] / round_[below] for round_ in timed]),
            note=of_seconds(seconds_of[above], seconds_of[below]),
            measured={f"{name}_seconds": took for name, took in seconds_of.items()},
        )


def _floors(pool: ModelPool, workload: Workload) -> Seconds:
    team, switcher = team_work(workload), switcher_work_of(pool, workload)
    rates: Rates = asyncio.run(
        measure_rates(pool, workload, team.steps.keys(), (team + switcher).read.keys())
    )
    floor = rates.seconds(team)
    return {"floor": floor, "floor_with_switcher": floor + rates.seconds(switcher)}
