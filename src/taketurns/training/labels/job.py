"""From tasks to a file of rollout records.

`rollouts.py` makes one record; this module makes many concurrently and continues a run that was
stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import UsageError
from taketurns.generation.team import Team
from taketurns.runs.description import describe_run
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import open_run
from taketurns.runs.records import Record, encode_record, query_to_json
from taketurns.runs.runner import Failures, run
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training.labels.allocation import Allocation
from taketurns.training.labels.decision_points import CutAt, DecisionPoint, Traces, decision_points
from taketurns.training.labels.labels import failures_of, is_left_out
from taketurns.training.labels.rollouts import (
    CostEstimate,
    RolloutGenerator,
    estimate_cost,
)

SAMPLED = 26  # prefixes that are rolled out for an estimate


@dataclass(frozen=True, slots=True)
class RolloutJob:
    """The decision points to roll out, and how. `manifest` has the inputs that decide the
    records."""

    team: TeamConfig
    points: tuple[DecisionPoint, ...]
    allocation: Allocation
    concurrency: int
    manifest: Manifest

    @property
    def at_a_time(self) -> int:
        """The number of concurrent prefixes: enough for `concurrency` rollouts, and two more."""
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
        cut_at: CutAt = "boundary",
        concurrency: int = 64,
    ) -> RolloutJob:
        """Raises UsageError for on-policy traces of a team without a switcher to follow, and for
        comparisons of a switcher that makes none; DataError if train queries repeat or occur in dev
        or test."""
        if cut_at == "comparison" and (traces, team.switcher.kind) != ("on-policy", "mentorcollab"):
            raise UsageError(
                f"--cuts comparison is for a switcher that compares patches, but here --traces is "
                f"{traces} and the team's switcher {team.switcher.kind}: use --traces on-policy "
                "with switcher.kind mentorcollab"
            )
        if traces == "random":  # the team's switcher is not used: it is neither loaded nor recorded
            team = replace(team, switcher=SwitcherConfig())
        elif team.switcher.kind == "random":
            raise UsageError(
                f"--traces {traces} uses the team's switcher, and this team's switcher is random: "
                "give a team with another switcher, or use --traces random"
            )
        points = decision_points(tasks, prefixes, traces, team.policy.seed, cut_at)
        queries = [query for task in tasks for query in task.queries("train")]
        data = b"".join(encode_record(query_to_json(query)) for query in queries)
        manifest = describe_run("rollout", team, data, tasks=[task.name for task in tasks])
        settings = {"allocation": asdict(allocation), "traces": traces}  # type: ignore[call-overload]
        if cut_at != "boundary":  # left out by default, so that runs of older versions continue
            settings["cuts"] = cut_at
        manifest = manifest.with_inputs(**settings, **own_parts(tasks))
        return cls(team, tuple(points), allocation, concurrency, manifest)


@dataclass(frozen=True, slots=True)
class RolloutSummary:
    """The prefixes that failed, how many rollouts were `lost` in the others, and how many prefixes
    were `left_out` because there is nothing to label."""

    failures: Failures
    lost: int
    left_out: int


def make_rollouts(job: RolloutJob, path: Path) -> RolloutSummary:
    """Write one record per prefix to `path`, keeping the records that it has. Raises DataError if
    the file belongs to another run."""
    return asyncio.run(_make(job, path))


def estimate_rollouts(job: RolloutJob) -> CostEstimate:
    """The estimated cost of the job, from its first prefixes. Writes nothing."""

    async def sample() -> CostEstimate:
        async with Team.load(job.team) as team:
            await team.prepare()
            rollouts = RolloutGenerator(team, job.allocation, job.concurrency)
            return await estimate_cost(rollouts, job.points, SAMPLED)

    return asyncio.run(sample())


async def _make(job: RolloutJob, path: Path) -> RolloutSummary:
    lost = left_out = 0
    async with Team.load(job.team) as team:
        generator = RolloutGenerator(team, job.allocation, job.concurrency)

        def count(record: Record) -> None:
            nonlocal lost, left_out
            lost += failures_of(record)
            left_out += is_left_out(record)

        with open_run(path, job.manifest) as output:
            if output.missing(job.points):
                await team.prepare()
            failures = await run(
                job.points,
                generator.record,
                output,
                concurrency=job.at_a_time,
                label="rolling out",
                on_done=count,
            )
    return RolloutSummary(failures, lost, left_out)
