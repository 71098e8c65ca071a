"""From tasks to a file of utilities: which prefixes, made by whom, kept where.

`training/labels/rollouts.py` makes one record; this runs as many as were asked for, side by side,
and goes on where a run was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import UsageError
from taketurns.generation.team import Team
from taketurns.runs.manifest import Manifest, describe_run
from taketurns.runs.output import claimed
from taketurns.runs.records import query_to_json, to_line
from taketurns.runs.runner import run
from taketurns.runs.terminal import Progress
from taketurns.tasks.base import Task
from taketurns.training.labels.allocation import Allocation
from taketurns.training.labels.decision_points import Cuts, DecisionPoint, Traces, occasions
from taketurns.training.labels.rollouts import (
    Estimate,
    RolloutGenerator,
    estimate,
    rollouts_to_json,
)

SAMPLED = 26  # prefixes that an estimate rolls out


@dataclass(frozen=True, slots=True)
class RolloutJob:
    """What is to be rolled out. `manifest` says what decides the records."""

    team: TeamConfig
    occasions: tuple[DecisionPoint, ...]
    allocation: Allocation
    concurrency: int
    manifest: Manifest

    @property
    def at_a_time(self) -> int:
        """Prefixes under way: enough to keep that many rollouts so, and some to begin with."""
        return self.concurrency // (len(self.team.candidates) * self.allocation.first) + 2

    @classmethod
    def of(
        cls,
        team: TeamConfig,
        tasks: Sequence[Task],
        *,
        prefixes: int,
        allocation: Allocation,
        traces: Traces | Literal["mixed"] = "random",
        cuts: Cuts = "boundary",
        concurrency: int = 64,
    ) -> RolloutJob:
        """Raises UsageError for traces of a switcher that the team has not, DataError if train
        queries leak or repeat."""
        if traces == "random":  # its switcher has no say: load none, any other may have made it
            team = replace(team, switcher=SwitcherConfig())
        elif team.switcher.kind == "random":
            raise UsageError(f"--traces {traces} needs a team whose switcher is not random")
        planned = occasions(tasks, prefixes, traces, team.policy.seed, cuts)
        queries = [query for task in tasks for query in task.queries("train")]
        data = b"".join(to_line(query_to_json(query)) for query in queries)
        manifest = describe_run("rollout", team, data, tasks=[task.name for task in tasks])
        settings = {"allocation": asdict(allocation), "traces": traces}  # type: ignore[call-overload]
        if cuts != "boundary":  # runs from before there was a choice go on
            settings["cuts"] = cuts
        manifest = replace(manifest, determined={**manifest.determined, **settings})
        return cls(team, tuple(planned), allocation, concurrency, manifest)


@dataclass(frozen=True, slots=True)
class RolloutSummary:
    """How many prefixes `failed`, how many rollouts were `lost` in the others, and why the first
    prefix failed."""

    failed: int
    lost: int
    error: str | None


def make_rollouts(plan: RolloutJob, path: Path) -> RolloutSummary:
    """Write a record a prefix to `path`; what is there already is kept. Raises DataError if it is
    another run's."""
    with asyncio.Runner() as runner:
        return runner.run(_make(plan, path))


def estimate_rollouts(plan: RolloutJob) -> Estimate:
    """What that would cost, from the first few prefixes. Writes nothing."""

    async def sample() -> Estimate:
        async with Team.load(plan.team) as team:
            await team.prepare()
            roller = RolloutGenerator(team, plan.allocation, plan.concurrency)
            return await estimate(roller, plan.occasions, SAMPLED)

    with asyncio.Runner() as runner:
        return runner.run(sample())


async def _make(plan: RolloutJob, path: Path) -> RolloutSummary:
    lost = 0
    async with Team.load(plan.team) as team:
        names = [candidate.name for candidate in team.candidates]
        roller = RolloutGenerator(team, plan.allocation, plan.concurrency)
        with claimed(path, plan.manifest) as output:
            kept = sum(occasion.id in output.kept for occasion in plan.occasions)
            if kept < len(plan.occasions):
                await team.prepare()
            with Progress("rolling out", len(plan.occasions), kept) as progress:

                async def roll_out(occasion: DecisionPoint) -> dict[str, Any]:
                    rollouts = await roller.roll_out(occasion)
                    return rollouts_to_json(rollouts, names, team.policy)

                def note(record: dict[str, Any]) -> None:
                    nonlocal lost
                    progress.advance(record.get("tokens", 0))
                    lost += sum(branch["failures"] for branch in record.get("branches", ()))

                outcome = await run(
                    plan.occasions,
                    lambda occasion: occasion.id,
                    roll_out,
                    output,
                    concurrency=plan.at_a_time,
                    on_done=note,
                )
    return RolloutSummary(outcome.failed, lost, outcome.error)
