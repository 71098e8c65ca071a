"""All measurements of `overhead`, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.overhead.impartial import ImpartialSwitcher
from benchmarks.overhead.memory import settled
from benchmarks.overhead.models import ModelPool, endless_pool, random_pool
from benchmarks.overhead.overhead import Overhead, measure, warm_up
from benchmarks.overhead.pocket import PocketModels, dev_questions, pocket_config
from benchmarks.overhead.questions import Questions
from benchmarks.overhead.setup import describe_setup
from benchmarks.overhead.workload import Workload, queries
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers.lm import LMSwitcher


@dataclass(frozen=True, slots=True)
class OverheadPlan:
    """What to measure; `pocket_questions` 0 leaves the bundled team out."""

    workloads: tuple[Workload, ...]
    repeats: int
    pocket_questions: int
    shape: str = "100m"
    device: str = "auto"
    dtype: str = "auto"

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(sorted({workload.batch for workload in self.workloads}))


@dataclass(frozen=True, slots=True)
class OverheadResults:
    """The measurements and their set-up."""

    setup: dict[str, str | int]
    overheads: tuple[Overhead, ...]
    questions: tuple[Questions, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """One JSON object per workload and pool, then one per batch size of the questions; all
        contain the set-up."""
        measured: tuple[Overhead | Questions, ...] = (*self.overheads, *self.questions)
        return [{**part.to_json(), "setup": self.setup} for part in measured]


def run(plan: OverheadPlan, say: Callable[[str], None]) -> OverheadResults:
    """Measure; `say` gets progress messages. Raises UsageError if the plan is not possible."""
    with random_pool(plan.shape, plan.device, plan.dtype) as pool:
        asyncio.run(_require_room(pool, plan.workloads))
        say(f"{pool.name}: making four models")
        pool.load()
        setup = describe_setup(pool.device, pool.dtype)
        with settled():
            overheads = _overheads(pool, plan, say)
    questions: tuple[Questions, ...] = ()
    if plan.pocket_questions:
        more, questions = _pocket(plan, say)
        overheads += more
    return OverheadResults(setup, overheads, questions)


def _overheads(
    pool: ModelPool, plan: OverheadPlan, say: Callable[[str], None]
) -> tuple[Overhead, ...]:
    overheads = []
    for workload in plan.workloads:
        where = f"{pool.name}, batch {workload.batch}, {workload.tokens} tokens"

        def say_where(what: str, where: str = where) -> None:
            say(f"{where}: {what}")

        say_where("warming up")
        warm_up(pool, workload.batch)
        overheads.append(measure(pool, workload, plan.repeats, say=say_where))
    return tuple(overheads)


def _pocket(
    plan: OverheadPlan, say: Callable[[str], None]
) -> tuple[tuple[Overhead, ...], tuple[Questions, ...]]:
    config = pocket_config()
    if config is None:
        say("the bundled team is left out, because this copy of the package has no weights for it")
        return (), ()
    models = PocketModels(config)
    with endless_pool("pocket", models.models) as pool, settled():
        overheads = _overheads(pool, plan, say)
    race, asked, raced = models.race(), dev_questions(plan.pocket_questions), []
    for batch in plan.batches:
        say(f"pocket: {len(asked)} questions, {batch} at a time")
        raced.append(race.run(asked, batch, plan.repeats))
    return overheads, tuple(raced)


async def _require_room(pool: ModelPool, workloads: Sequence[Workload]) -> None:
    """Raise PromptError if an answer would not fit the models' context."""
    engine = pool.engine(switcher=True)
    switcher = ImpartialSwitcher(LMSwitcher(SWITCHER))
    async with Team(pool.candidates, engine, switcher) as team:
        for workload in workloads:
            await team.check_prompt(queries(workload, pool.words)[0], workload.policy)
