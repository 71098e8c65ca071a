"""Answers to dev questions, asked once and stored in the evaluation's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256

from taketurns.errors import EngineError, UsageError
from taketurns.evaluation.asking import AnswerRequest, recorded
from taketurns.evaluation.methods.base import Ask, DevAnswer
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.evaluation.store import Store, records
from taketurns.runs.output import JsonlOutput
from taketurns.runs.runner import run
from taketurns.tasks.base import Task
from taketurns.utils.locks import lock_async
from taketurns.utils.seeds import derive


class DevCache:
    """Answers to the first `limit` dev questions of each task, with one seed that only dev has."""

    def __init__(
        self,
        store: Store,
        tasks: Mapping[str, Task],
        names: Sequence[str],
        limit: int,
        seed: int,
        concurrency: int,
        *,
        quiet: bool = False,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._names = names
        self._limit = limit
        self._seed = derive(seed, "dev") % 2**31
        self._concurrency = concurrency
        self._quiet = quiet
        self._kept: dict[str, Mapping[str, Sequence[DevAnswer]]] = {}

    def digest(self) -> str:
        """A digest of all questions."""
        return sha256("\n".join(item.id for item in self._items).encode()).hexdigest()

    async def answers(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        if name not in self._kept:
            self._kept[name] = await self._ask(name, ask)
        return self._kept[name]

    async def _ask(self, name: str, ask: Ask) -> Mapping[str, Sequence[DevAnswer]]:
        items, path = self._items, self._store.dev(name)
        async with lock_async(path, wait=True):
            manifest = self._store.claim(path, {}, None)
            with JsonlOutput(path) as output:
                failures = await run(
                    items,
                    recorded(ask, self._names, Stopwatch()),
                    output,
                    concurrency=self._concurrency,
                    label=None if self._quiet else f"dev: {name}",
                    token_key="written",
                )
            if failures:  # no choice on a part of the answers
                raise EngineError(
                    f"{failures.count} dev answers of {name} failed: {failures.first}; the same "
                    "command asks them again"
                )
            manifest.finish(path)
        by_id = {record["id"]: record for record in records(path)}
        answers: dict[str, list[DevAnswer]] = {task: [] for task in self._tasks}
        for item in items:
            record = by_id[item.id]
            score, tokens = record["score"] or 0.0, record["read"] + record["written"]
            answers[item.task.name].append(DevAnswer(item.query, record["text"], score, tokens))
        return answers

    @cached_property
    def _items(self) -> list[AnswerRequest]:
        items = []
        for task in self._tasks.values():
            queries = task.queries("dev")[: self._limit]
            if not queries:
                raise UsageError(
                    f"task {task.name!r} has no dev questions, but a method chooses its settings "
                    "on dev: add a dev split, or leave out the method or the task"
                )
            items += [AnswerRequest(task, query, self._seed) for query in queries]
        return items
