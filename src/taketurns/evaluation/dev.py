"""Dev answers, asked for once and kept in the evaluation's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

from taketurns.errors import EngineError, UsageError
from taketurns.evaluation.asking import AnswerRequest, Record, ask_all, recorded
from taketurns.evaluation.methods.base import Ask, DevAnswer
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.evaluation.store import Store, records
from taketurns.runs.output import JsonlOutput
from taketurns.tasks.base import Task
from taketurns.utils.locks import locked
from taketurns.utils.seeds import derive

Note = Callable[[str, int, int], Callable[[Record], None]]
"""As `asking.Show`, with the name of the answers before the numbers."""


class DevCache:
    """The first `limit` dev questions of each task, answered under one seed of their own."""

    def __init__(
        self,
        store: Store,
        tasks: Mapping[str, Task],
        names: Sequence[str],
        limit: int,
        seed: int,
        concurrency: int,
        note: Note,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._names = names
        self._limit = limit
        self._seed = derive(seed, "dev") % 2**31
        self._concurrency = concurrency
        self._note = note
        self._kept: dict[str, Mapping[str, Sequence[DevAnswer]]] = {}

    def digest(self) -> str:
        """Of all questions."""
        return sha256("\n".join(item.id for item in self._items).encode()).hexdigest()

    async def answers(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        if name not in self._kept:
            self._kept[name] = await self._ask(name, ask)
        return self._kept[name]

    async def _ask(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        items, path = self._items, self._store.dev(name)
        async with locked(path, wait=True):
            manifest = self._store.claim(path, {}, None)
            await self._fill(name, path, items, ask)
            manifest.finish(path)
        by_id = {record["id"]: record for record in records(path)}
        answers: dict[str, list[DevAnswer]] = {task: [] for task in self._tasks}
        for item in items:
            record = by_id[item.id]
            score, tokens = record["score"] or 0.0, record["read"] + record["written"]
            answers[item.task.name].append(DevAnswer(item.query, record["text"], score, tokens))
        return answers

    async def _fill(self, name: str, path: Path, items: Sequence[AnswerRequest], ask: Ask) -> None:
        """Ask what is not kept. Raises EngineError if an answer fails: nothing is chosen by
        half."""
        with JsonlOutput(path) as output:
            work, show = (
                recorded(ask, self._names, Stopwatch()),
                partial(self._note, f"dev: {name}"),
            )
            outcome = await ask_all(items, work, output, self._concurrency, show)
        if outcome.failed:
            failures = (record["error"] for record in records(path) if record.get("error"))
            raise EngineError(f"{outcome.failed} dev answers of {name} failed: {next(failures)}")

    @cached_property
    def _items(self) -> list[AnswerRequest]:
        items = []
        for task in self._tasks.values():
            queries = task.queries("dev")[: self._limit]
            if not queries:
                raise UsageError(
                    f"task {task.name!r} has no dev questions, which a method needs to choose "
                    "by; leave the method or the task out"
                )
            items += [AnswerRequest(task, query, self._seed) for query in queries]
        return items
