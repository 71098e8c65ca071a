"""A thread with an event loop: results, tokens and cancellations cross to the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taketurns.engines.base import OnToken
from taketurns.engines.vllm.engine_thread import EngineThread
from taketurns.errors import EngineError
from taketurns.types import Token


@pytest.fixture
async def thread() -> AsyncIterator[EngineThread]:
    thread = EngineThread()
    yield thread
    await asyncio.to_thread(thread.close)


async def test_tokens_are_seen_before_the_result_and_in_order(thread: EngineThread) -> None:
    seen: list[int | None] = []

    async def work(emit: OnToken | None) -> int:
        assert emit is not None
        for number in range(50):
            emit(Token(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        return len(seen)

    async def one() -> list[int | None]:
        mine: list[int | None] = []
        await thread.run(work, lambda token: mine.append(token.id))
        return mine

    assert await asyncio.gather(*(one() for _ in range(8))) == [list(range(50))] * 8


async def test_no_token_is_seen_after_a_cancellation(thread: EngineThread) -> None:
    seen: list[Token] = []
    ended = asyncio.Event()
    here = asyncio.get_running_loop()

    async def work(emit: OnToken | None) -> None:
        assert emit is not None
        try:
            while True:
                emit(Token(1))
                await asyncio.sleep(0.001)
        finally:
            here.call_soon_threadsafe(ended.set)

    task = asyncio.create_task(thread.run(work, seen.append))
    while not seen:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(seen)
    async with asyncio.timeout(5):
        await ended.wait()
    await asyncio.sleep(0.01)
    assert len(seen) == count


async def test_errors_are_the_callers(thread: EngineThread) -> None:
    async def work(emit: OnToken | None) -> Any:
        raise EngineError("x")

    with pytest.raises(EngineError, match="x"):
        await thread.run(work)


async def test_closing_ends_what_runs_with_an_error() -> None:
    thread, begun = EngineThread(), asyncio.Event()
    here = asyncio.get_running_loop()

    async def work(emit: OnToken | None) -> None:
        here.call_soon_threadsafe(begun.set)
        await asyncio.sleep(1000)

    task = asyncio.create_task(thread.run(work))
    await begun.wait()
    await asyncio.to_thread(thread.close)
    async with asyncio.timeout(5):
        with pytest.raises(EngineError, match="the engine is closed"):
            await task
    work_later = asyncio.sleep(0)
    thread.start(work_later)  # nothing, and no warning of a coroutine that never ran
    with pytest.raises(EngineError, match="the engine is closed"):
        await thread.run(work)
