"""The runner for several processes: records are made on Ray and kept in Parquet shards.

A folder has `00000.parquet`, `00001.parquet`, … in the order of the items, and `index.jsonl` with a
line for each complete shard. A shard is the unit of work and of continuing: the same command makes
the shards that are not in the index, and those with a failed record. The columns are `id`, `error`
and `record`, the JSON line that the local runner would write.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from taketurns.errors import DataError, UsageError
from taketurns.runs.output import failed, without_repeats
from taketurns.runs.progress import Progress
from taketurns.runs.records import Record, encode_record, json_safe, warn_of_lost_text
from taketurns.runs.runner import Failures, describe_error, map_ordered
from taketurns.utils.extras import require
from taketurns.utils.files import atomic_file
from taketurns.utils.json_files import parse_json

INDEX = "index.jsonl"


class Worker(Protocol):
    """Makes records in a separate process, `concurrency` items at a time."""

    concurrency: int

    async def work(self, item: Record) -> Record:
        """The record of an item, which is a JSON value with an "id"."""
        ...


@dataclass(frozen=True, slots=True)
class RaySettings:
    """`actors` concurrent processes, each with `gpus` GPUs, make shards of `shard` items. Raises
    UsageError for a value out of range."""

    actors: int = 1
    gpus: float = 0.0
    shard: int = 64

    def __post_init__(self) -> None:
        if self.actors < 1 or self.shard < 1 or self.gpus < 0:
            raise UsageError(
                "--actors and --shard must be at least 1 and --gpus 0 or more, not "
                f"{self.actors}, {self.shard} and {self.gpus:g}"
            )


def split(items: Sequence[Record], size: int) -> dict[str, list[Record]]:
    """Shards of `size` items, by name."""
    return {
        f"{number:05}": list(items[at : at + size])
        for number, at in enumerate(range(0, len(items), size))
    }


def require_ray() -> None:
    """Raise UsageError without Ray."""
    require("--runner ray", "ray")


def run_on_ray(
    shards: Mapping[str, Sequence[Record]],
    make: Callable[[], Worker],
    folder: Path,
    settings: RaySettings,
    on_shard: Callable[[Record], None],
    *,
    label: str,
    total: int,
) -> Failures:
    """Write the records of shards into `folder`; returns the failures. A shard's name may contain
    folders. `make` makes a worker in each actor, and `on_shard` gets the index line of each
    finished shard. Progress is shown under `label`, as a part of `total` records.

    Uses the Ray cluster of RAY_ADDRESS, or starts one on this host. Raises UsageError without Ray.
    """
    require_ray()
    failures = Failures()
    kept = total - sum(map(len, shards.values()))
    with (
        Progress(label, total, kept) as progress,
        closing(_make_on_ray(shards, make, folder, settings)) as lines,
    ):
        for line in lines:
            on_shard(line)
            failures += Failures(line["failed"], line["error"])
            progress.advance(line["tokens"], line["records"])
    return failures


def read_shards(folder: Path) -> Iterator[Record]:
    """The records of a folder, in the order of the items. Raises DataError if it cannot be read."""
    try:
        lines = (folder / INDEX).read_text(encoding="utf-8").splitlines()
        for line in without_repeats(parse_json(line, strict=False) for line in lines):
            yield from read_shard(folder / line["file"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a folder of shards: {error}") from error


def read_shard(path: Path) -> Iterator[Record]:
    """The records of one shard. Raises OSError, ValueError or KeyError if it is not a shard."""
    import pyarrow.parquet as parquet

    for line in parquet.read_table(path).column("record").to_pylist():
        record = parse_json(line, strict=False)
        warn_of_lost_text(record, str(path))
        yield record


def _make_on_ray(
    shards: Mapping[str, Sequence[Record]],
    make: Callable[[], Worker],
    folder: Path,
    settings: RaySettings,
) -> Generator[Record, None, None]:
    """The index lines of the shards, when each is finished."""
    import ray
    import ray.data

    if not shards:
        return
    mine = not ray.is_initialized()
    if mine:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # `Progress` is shown instead
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"shard": name, "items": json.dumps(list(items))} for name, items in shards.items()]
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(make, str(folder.absolute())),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(settings.actors, len(rows))),
            num_cpus=1,
            num_gpus=settings.gpus or None,
        )
        for row in made.iter_rows():
            yield json.loads(row["line"])
    finally:
        if mine:
            ray.shutdown()


class _Actor:
    """A worker in a Ray actor; a batch is a shard."""

    def __init__(self, make: Callable[[], Worker], folder: str) -> None:
        self._folder = Path(folder)
        self._loop = asyncio.new_event_loop()
        self._worker = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        lines = []
        for name, items in zip(batch["shard"], batch["items"], strict=True):
            records = self._loop.run_until_complete(self._records(json.loads(str(items))))
            _write(self._folder / f"{name}.parquet", records)
            wrong = [record["error"] for record in records if failed(record)]
            lines.append(
                {
                    "id": str(name),
                    "file": f"{name}.parquet",
                    "records": len(records),
                    "tokens": sum(record.get("tokens", 0) for record in records),
                    "failed": len(wrong),
                    "error": f"{len(wrong)} records failed: {wrong[0]}" if wrong else None,
                }
            )
        return {"line": [json.dumps(line) for line in lines]}

    async def _records(self, items: list[Record]) -> list[Record]:
        async def attempt(item: Record) -> Record:
            try:
                return json_safe(await self._worker.work(item))
            except Exception as error:
                return {"id": item["id"], "error": describe_error(error)}

        return [record async for record in map_ordered(items, attempt, self._worker.concurrency)]


def _write(path: Path, records: Sequence[Record]) -> None:
    """Write a shard atomically."""
    import pyarrow
    import pyarrow.parquet as parquet

    table = pyarrow.table(
        {
            "id": [record["id"] for record in records],
            "error": pyarrow.array([record.get("error") for record in records], pyarrow.string()),
            "record": [encode_record(record).decode().rstrip("\n") for record in records],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        parquet.write_table(table, draft)
