"""Three LoRA adapters on the Llama of 97M parameters: time beside the base alone, and beside a
floor in which every decode step is one forward for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import Ratios, Row, ratio_rows
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
RATIOS: Ratios = {
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
    if rounds:
        say(f"{unit.name}: floor")
    floors = {"floor": _floor(pools["one"], workload)} if rounds else {}
    yield from ratio_rows(unit, RATIOS, rounds, floors)


def _seconds(pool: ModelPool, variant: str, workload: Workload) -> float:
    return VARIANTS[variant](pool, workload).seconds


def _floor(plain: ModelPool, workload: Workload) -> float:
    work = team_work(workload, shared=True)
    rates = asyncio.run(measure_rates(plain, workload, work.steps.keys(), work.read.keys()))
    return rates.seconds(work)
