"""Answers and rollouts on Ray: the records of the local runner, in a folder of shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError
from taketurns.integrations.ray.workers import AnswerWorker, RolloutWorker
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import open_run
from taketurns.runs.records import query_to_json
from taketurns.runs.runner import Failures
from taketurns.runs.shards import (
    INDEX,
    RaySettings,
    Worker,
    read_shards,
    require_ray,
    run_on_ray,
    split,
)
from taketurns.training.labels.job import RolloutJob, RolloutSummary
from taketurns.training.labels.labels import failures_of, is_left_out
from taketurns.types import Query


def answer_on_ray(
    config: TeamConfig,
    queries: Sequence[Query],
    folder: Path,
    manifest: Manifest,
    settings: RaySettings,
    concurrency: int,
) -> Failures:
    """Answer every query; returns the failures. Raises DataError if the folder belongs to another
    run, UsageError without Ray."""
    items = [query_to_json(query) for query in queries]
    make = partial(AnswerWorker, config, concurrency)
    return _run("generating", items, make, folder, manifest, settings)


def roll_out_on_ray(job: RolloutJob, folder: Path, settings: RaySettings) -> RolloutSummary:
    """Roll out every prefix of a job. Raises DataError if the folder belongs to another run,
    UsageError without Ray."""
    items = [{"id": point.id, "number": number} for number, point in enumerate(job.points)]
    make = partial(RolloutWorker, job)
    failures = _run("rolling out", items, make, folder, job.manifest, settings)
    lost = left_out = 0
    for record in read_shards(folder):
        lost += failures_of(record)
        left_out += is_left_out(record)
    return RolloutSummary(failures, lost, left_out)


def _run(
    label: str,
    items: Sequence[dict[str, object]],
    make: Callable[[], Worker],
    folder: Path,
    manifest: Manifest,
    settings: RaySettings,
) -> Failures:
    require_ray()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write the folder {folder}: {error.strerror}") from error
    shards = split(items, settings.shard)
    with open_run(folder / INDEX, manifest.with_inputs(shard=settings.shard)) as output:
        missing = {name: shard for name, shard in shards.items() if name not in output.kept}
        failures = run_on_ray(
            missing, make, folder, settings, output.write, label=label, total=len(items)
        )
        output.order(shards)
    return failures
