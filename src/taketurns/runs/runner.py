"""Map an asynchronous function over many items, here: bounded, in order, resumable.

It knows nothing of teams. An item has an id, the function makes a record of it, and a failure is a
record too: it is written with its reason, the others go on, and the same command tries it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from taketurns.errors import TakeTurnsError
from taketurns.runs.output import JsonlOutput, failed
from taketurns.runs.progress import Progress
from taketurns.runs.records import Record, json_safe

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Failures:
    """How many records failed, and why the first of them did; false where none did."""

    count: int = 0
    first: str | None = None

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Failures) -> Failures:
        return Failures(self.count + other.count, self.first or other.first)

    def sentence(self, failed: str) -> str:
        """What a user should know and do; `failed` goes on from the number, "answers failed"."""
        return f"{self.count} {failed}, first: {self.first}; the same command tries them again"


async def run(
    items: Sequence[ItemT],
    work: Callable[[ItemT], Awaitable[Record]],
    output: JsonlOutput,
    *,
    key: Callable[[ItemT], str] = attrgetter("id"),
    concurrency: int = 8,
    label: str | None = None,
    bar: bool = True,
    token_key: str = "tokens",
    on_done: Callable[[Record], None] | None = None,
) -> Failures:
    """Write `work(item)` for every item that `output` does not hold, in the order of the items;
    those that failed.

    Progress is shown under `label` (None: not at all), a record's tokens being under `token_key`.
    `on_done` sees each record as soon as it is there, in whatever order. An exception of `work`
    becomes `{"id", "error"}`, and so does a text that UTF-8 cannot say; numbers that JSON cannot
    say become null and an "error" beside what else there is. Cancelling this cancels all work, and
    the output can be resumed.
    """
    left = output.missing(items, key)
    failures = Failures()
    shown: AbstractContextManager[Progress | None] = nullcontext()
    if label is not None and left:
        shown = Progress(label, len(items), len(items) - len(left), bar=bar)
    with shown as progress:

        async def attempt(item: ItemT) -> Record:
            try:
                record = await work(item)
            except Exception as error:
                record = {"id": key(item), "error": describe_error(error)}
            if progress is not None:
                progress.advance(record.get(token_key, 0))
            if on_done is not None:
                on_done(record)
            return record

        async with aclosing(map_ordered(left, attempt, concurrency)) as records:
            async for record in records:
                record = json_safe(record)
                try:
                    output.write(record)
                except ValueError as error:  # half a character is no reason to stop
                    record = {"id": record["id"], "error": describe_error(error)}
                    output.write(record)
                if failed(record):
                    failures += Failures(1, record["error"])
    output.order(key(item) for item in items)
    return failures


async def map_ordered(
    items: Iterable[ItemT], work: Callable[[ItemT], Awaitable[ResultT]], concurrency: int
) -> AsyncGenerator[ResultT, None]:
    """Results in the order of the items, at most `concurrency` at work at a time.

    Work runs ahead of the oldest unfinished item by at most four times that, which bounds memory.
    """
    free = asyncio.Semaphore(concurrency)
    ahead: deque[asyncio.Task[ResultT]] = deque()

    async def limited(item: ItemT) -> ResultT:
        async with free:
            return await work(item)

    try:
        for item in items:
            ahead.append(asyncio.create_task(limited(item)))
            if len(ahead) >= 4 * concurrency:
                yield await ahead[0]
                ahead.popleft()
        while ahead:
            yield await ahead[0]
            ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


def describe_error(error: Exception) -> str:
    """An exception as one line: ours by its sentence, any other with its kind."""
    text = " ".join(str(error).split())
    return text if text and isinstance(error, TakeTurnsError) else f"{type(error).__name__}: {text}"
