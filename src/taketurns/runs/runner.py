"""The local runner: maps an asynchronous function over items, with bounded concurrency, in order.

It does not depend on teams. An item has an id, and the function makes a record of it. A failure is
a record too: it has the reason, the other items continue, and the same command tries it again.
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
    """The number of failed records, and the error of the first; false if there is none."""

    count: int = 0
    first: str | None = None

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Failures) -> Failures:
        return Failures(self.count + other.count, self.first or other.first)

    def sentence(self, failed: str) -> str:
        """A sentence for the user; `failed` follows the number, as in "3 answers failed"."""
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
    """Write `work(item)` for every item that `output` does not have, in the order of the items;
    returns the failures.

    Progress is shown under `label` (None: no progress); `token_key` is the key of a record's number
    of tokens. `on_done` gets each record when it is made, in any order. An exception of `work`
    becomes the record `{"id", "error"}`, and so does a record with text that UTF-8 cannot encode;
    NaN and infinity become null, and the record gets an "error". Cancelling this cancels all work;
    the output can be continued.
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
                except ValueError as error:  # text that UTF-8 cannot encode fails only its record
                    record = {"id": record["id"], "error": describe_error(error)}
                    output.write(record)
                if failed(record):
                    failures += Failures(1, record["error"])
    output.order(key(item) for item in items)
    return failures


async def map_ordered(
    items: Iterable[ItemT], work: Callable[[ItemT], Awaitable[ResultT]], concurrency: int
) -> AsyncGenerator[ResultT, None]:
    """Results in the order of the items, with at most `concurrency` calls of `work` at a time.

    At most four times as many items are ahead of the oldest unfinished one, which bounds memory.
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
    """An exception as one line: the message of this package's errors, and the type and message of
    others."""
    text = " ".join(str(error).split())
    return text if text and isinstance(error, TakeTurnsError) else f"{type(error).__name__}: {text}"
