"""The Llamas of 97M parameters: time beside one model, the floor and fast rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import Ratios, Row, ratio_rows
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
RATIOS: Ratios = {
    "team / one": ("kept", "single", None),
    "team + LM switcher / one": ("kept_with_switcher", "single", None),
    "team / floor": ("kept", "floor", None),
    "team + LM switcher / floor": ("kept_with_switcher", "floor_with_switcher", None),
    "exact / fast rounds": ("deterministic", "kept", None),
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
    if rounds:
        say(f"{unit.name}: floor")
    floors = _floors(pool, workload) if rounds else {}
    yield from ratio_rows(unit, RATIOS, rounds, floors)


def _floors(pool: ModelPool, workload: Workload) -> Seconds:
    team, switcher = team_work(workload), switcher_work_of(pool, workload)
    rates: Rates = asyncio.run(
        measure_rates(pool, workload, team.steps.keys(), (team + switcher).read.keys())
    )
    floor = rates.seconds(team)
    return {"floor": floor, "floor_with_switcher": floor + rates.seconds(switcher)}
