"""Answers and rollouts on Ray: the same records as here, in a folder of shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError
from taketurns.integrations.ray.workers import Answering, RollingOut
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import claimed
from taketurns.runs.records import query_to_json
from taketurns.runs.runner import Outcome
from taketurns.runs.shards import (
    INDEX,
    RaySettings,
    Worker,
    read_shards,
    require_ray,
    run_on_ray,
    split,
)
from taketurns.runs.terminal import Progress
from taketurns.training.labels.job import RolloutJob, RolloutSummary
from taketurns.types import Query


def answer_on_ray(
    config: TeamConfig,
    queries: Sequence[Query],
    folder: Path,
    manifest: Manifest,
    settings: RaySettings,
    concurrency: int,
) -> Outcome:
    """Answer every query. Raises DataError if the folder is another run's."""
    items = [query_to_json(query) for query in queries]
    make = partial(Answering, config, concurrency)
    return _run("generating", items, make, folder, manifest, settings)


def roll_out_on_ray(plan: RolloutJob, folder: Path, settings: RaySettings) -> RolloutSummary:
    """Roll out every prefix of a plan. Raises DataError if the folder is another run's."""
    items = [{"id": occasion.id, "number": number} for number, occasion in enumerate(plan.points)]
    make = partial(RollingOut, plan)
    outcome = _run("rolling out", items, make, folder, plan.manifest, settings)
    lost = sum(
        branch["failures"]
        for record in read_shards(folder)
        for branch in record.get("branches", ())
    )
    return RolloutSummary(outcome.failed, lost, outcome.error)


def _run(
    what: str,
    items: Sequence[dict[str, object]],
    make: Callable[[], Worker],
    folder: Path,
    manifest: Manifest,
    settings: RaySettings,
) -> Outcome:
    require_ray()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write the folder {folder}: {error.strerror}") from error
    index = folder / INDEX
    determined = {**manifest.determined, "shard": settings.shard}
    shards = split(items, settings.shard)
    with claimed(index, replace(manifest, determined=determined)) as output:
        kept = sum(len(shard) for name, shard in shards.items() if name in output.kept)
        with Progress(what, len(items), kept) as progress:
            return run_on_ray(
                shards,
                make,
                folder,
                output,
                settings,
                lambda line: progress.advance(line["tokens"], line["records"]),
            )
