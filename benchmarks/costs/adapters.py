"""Three LoRA adapters on the Llama of 97M parameters: time beside the base alone, and beside a
floor in which every decode step is one forward for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import NO_TIME, Row, Spread, left_out, of_seconds
from benchmarks.costs.units import Say, Setting, Unit
from benchmarks.overhead.adapters import ApartPool, adapter_pool
from benchmarks.overhead.floor import team_work
from benchmarks.overhead.memory import settled
from benchmarks.overhead.models import ModelPool, random_pool
from benchmarks.overhead.overhead import warm_up
from benchmarks.overhead.rates import measure_rates
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.workload import Workload

GROUP = "adapters"
TO_REACH = 1.10
RATIOS: Mapping[str, tuple[str, str, float | None]] = {
    "three adapters: team / floor": ("shared", "floor", TO_REACH),
    "three adapters, exact rounds: team / floor": ("exact", "floor", TO_REACH),
    "three adapters: team / one": ("shared", "one", None),
    "three adapters, a forward each: team / one": ("apart", "one", None),
}


def adapter_rows(
    units: Sequence[Unit], setting: Setting, budget: Budget, say: Say
) -> Iterator[Row]:
    """The rows of each unit. "One" is the base by transformers' own generate; the floor is at the
    rates of the base, without the work of any adapter."""
    with random_pool(setting.size, "cpu", "float32") as plain, settled():
        plain.model(plain.candidates[0].name)
        with adapter_pool(plain) as shared:
            pools = {"one": plain, "shared": shared, "exact": shared, "apart": ApartPool(shared)}
            for unit in units:
                yield from _rows(pools, unit, setting, budget, say)


def _rows(
    pools: Mapping[str, ModelPool], unit: Unit, setting: Setting, budget: Budget, say: Say
) -> Iterator[Row]:
    workload = Workload(unit.batch, unit.tokens, clock=setting.clock)
    runs: dict[str, Callable[[], float]] = {}
    for name, pool in pools.items():
        variant = {"one": "single", "exact": "deterministic"}.get(name, "kept")
        if budget.left > 0:
            say(f"{unit.name}: warming up {name}")
            warm_up(pool, unit.batch, [variant])
        runs[name] = partial(_seconds, pool, variant, workload)
    rounds = interleave(runs, budget.part(unit.name), unit.rounds, left=budget.left)
    if not rounds:
        for what in RATIOS:
            yield left_out(unit.name, what, unit.batch, unit.tokens, NO_TIME)
        return
    say(f"{unit.name}: floor")
    floor = _floor(pools["one"], workload)
    for what, (above, below, at_most) in RATIOS.items():
        timed = [{"floor": floor, **round_} for round_ in rounds]
        seconds_of = {name: median(round_[name] for round_ in timed) for name in (above, below)}
        yield Row(
            unit.name,
            what,
            unit.batch,
            unit.tokens,
            len(timed),
            Spread.of([round_[above] / round_[below] for round_ in timed]),
            at_most=at_most,
            note=of_seconds(seconds_of[above], seconds_of[below]),
            measured={f"{name}_seconds": took for name, took in seconds_of.items()},
        )


def _seconds(pool: ModelPool, variant: str, workload: Workload) -> float:
    return VARIANTS[variant](pool, workload).seconds


def _floor(plain: ModelPool, workload: Workload) -> float:
    work = team_work(workload, shared=True)
    rates = asyncio.run(measure_rates(plain, workload, work.steps.keys(), work.read.keys()))
    return rates.seconds(work)
