"""An evaluation on Ray: a row is one answer that one method must give.

Each actor runs its own evaluation on the same folder: it makes the choices of its methods on dev,
or reads those that another actor made. Answers arrive as Parquet shards and are then written to
`answers/METHOD.jsonl`, where the report and later runs read them. A shard's name is a digest of the
run and of the answers in it; a complete shard is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

from taketurns.errors import DataError, UsageError
from taketurns.evaluation.asking import AnswerRequest
from taketurns.evaluation.run import Evaluation
from taketurns.evaluation.store import Store
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import JsonlOutput, failed
from taketurns.runs.records import Record
from taketurns.runs.runner import Failures
from taketurns.runs.shards import RaySettings, Worker, read_shard, run_on_ray, split
from taketurns.utils.locks import lock_async


class EvaluationWorker:
    """Lets methods answer. An item has the `id` of an answer and its `method`; all items in
    progress have the same method."""

    def __init__(
        self, evaluation: Evaluation, items: Sequence[AnswerRequest], concurrency: int
    ) -> None:
        self.concurrency = concurrency
        self._evaluation = evaluation
        self._items = {item.id: item for item in items}

    async def work(self, item: Record) -> Record:
        if item["id"] not in self._items:
            raise UsageError(
                f"this node has no question for the answer {item['id']}: give every node the same "
                "task files and data"
            )
        return await self._evaluation.answer(item["method"], self._items[item["id"]])


async def ask_on_ray(
    evaluation: Evaluation,
    store: Store,
    items: Sequence[AnswerRequest],
    make: Callable[[], Worker],
    settings: RaySettings,
) -> Failures:
    """Ask everything that has not been answered, with an `evaluation` that has been checked; return
    the answers that failed. Raises UsageError without Ray."""
    ids = [item.id for item in items]
    async with AsyncExitStack() as stack:
        by_folder: dict[str, _MethodAnswers] = {}
        for name, dev in evaluation.checked.items():
            path, folder = store.answers(name, dev), store.shards(name)
            await stack.enter_async_context(lock_async(path, wait=True))
            manifest = evaluation.claim(name)
            output = stack.enter_context(JsonlOutput(path))
            by_folder[folder.name] = _MethodAnswers(name, path, output, manifest, folder)
        choosing = {
            folder for folder, answers in by_folder.items() if evaluation.checked[answers.method]
        }
        shards = _urgent_first(
            {name: answers.shards(ids, settings.shard) for name, answers in by_folder.items()},
            choosing,
        )

        def take(line: Record) -> None:
            folder, _, name = line["id"].partition("/")
            by_folder[folder].take(name)

        failures = run_on_ray(
            shards, make, store.folder / "shards", settings, take,
            label="answering", total=len(ids) * len(by_folder),
        )  # fmt: skip
        for answers in by_folder.values():
            answers.finish(ids)
    return failures


class _MethodAnswers:
    """The answers of one method: the Parquet files in `folder` come from Ray and are copied into
    `output`, the file at `path`."""

    def __init__(
        self, method: str, path: Path, output: JsonlOutput, manifest: Manifest, folder: Path
    ) -> None:
        self.method = method
        self._file = path
        self._output = output
        self._manifest = manifest
        self._folder = folder

    def shards(self, ids: Sequence[str], size: int) -> dict[str, list[Record]]:
        """The answers that are still missing, by shard name. A shard that an earlier run made but
        did not copy is copied now."""
        left: list[Record] = [
            {"id": identifier, "method": self.method}
            for identifier in self._output.missing(ids, str)
        ]
        shards = {}
        for shard in split(left, size).values():
            wanted = "\n".join([self._manifest.identity, *(item["id"] for item in shard)])
            name = sha256(wanted.encode()).hexdigest()[:16]
            if self._whole(name):
                self.take(name)
            else:
                shards[name] = shard
        return shards

    def take(self, name: str) -> None:
        """Copy the answers of a shard into the output."""
        for record in self._read(name):
            self._output.write(record)

    def finish(self, ids: Sequence[str]) -> None:
        """Sort all answers in the order of `ids`."""
        self._output.order(ids)
        self._manifest.finish(self._file)

    def _whole(self, name: str) -> bool:
        return self._path(name).exists() and not any(map(failed, self._read(name)))

    def _read(self, name: str) -> Iterator[Record]:
        try:
            yield from read_shard(self._path(name))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"cannot read {self._path(name)} as a shard ({error}): remove it, and the same "
                "command makes it again"
            ) from error

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"


def _urgent_first(
    shards: Mapping[str, Mapping[str, list[Record]]], choosing: set[str]
) -> dict[str, list[Record]]:
    """All shards, as FOLDER/NAME. One shard of each method that chooses on dev comes first, so that
    actors choose for several methods at the same time and seldom wait for each other."""
    by_name = {
        f"{folder}/{name}": shard for folder in shards for name, shard in shards[folder].items()
    }
    urgent = {f"{folder}/{next(iter(shards[folder]))}" for folder in choosing if shards[folder]}
    return {name: by_name[name] for name in sorted(by_name, key=lambda name: name not in urgent)}
