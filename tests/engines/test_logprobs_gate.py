"""Requests for the most probable tokens and for given ones are never in one batch."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.engines.logprobs_gate import Kind, LogprobsGate

KINDS: tuple[Kind, ...] = get_args(Kind)


@given(st.lists(st.sampled_from(KINDS), max_size=30), st.integers(0, 1 << 30))
def test_two_kinds_are_never_inside_and_all_come_through(kinds: list[Kind], seed: int) -> None:
    async def run() -> None:
        gate, inside, draws = LogprobsGate(), Counter[Kind](), random.Random(seed)

        async def request(kind: Kind) -> None:
            for _ in range(draws.randrange(3)):
                await asyncio.sleep(0)
            async with gate.passing(kind):
                inside[kind] += 1
                try:
                    assert not (inside["top"] and inside["given"])
                    for _ in range(draws.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    inside[kind] -= 1

        tasks = [asyncio.create_task(request(kind)) for kind in kinds]
        for task in tasks:
            if draws.random() < 0.2:
                await asyncio.sleep(0)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            assert result is None or isinstance(result, asyncio.CancelledError)
        async with asyncio.timeout(1):
            for kind in KINDS:
                async with gate.passing(kind):
                    pass

    asyncio.run(run())


async def test_one_kind_is_in_one_batch_and_the_other_waits_its_turn() -> None:
    gate, order = LogprobsGate(), list[str]()

    async def request(kind: Kind, name: str) -> None:
        async with gate.passing(kind):
            order.append(name)
            await asyncio.sleep(0.01)
            order.append(name.upper())

    await asyncio.gather(
        request("top", "a"), request("top", "b"), request("given", "c"), request("top", "d")
    )
    assert order == ["a", "b", "A", "B", "c", "C", "d", "D"]


async def test_an_error_inside_lets_the_next_in() -> None:
    gate = LogprobsGate()
    with pytest.raises(ValueError, match="x"):
        async with gate.passing("top"):
            raise ValueError("x")
    async with asyncio.timeout(1), gate.passing("given"):
        pass
