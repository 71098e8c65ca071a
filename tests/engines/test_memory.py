"""What is admitted bounds what is allocated, to the byte."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from transformers import Qwen3_5TextConfig

from taketurns.engines.local import lanes, reclaimable
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.lanes import LanePool
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.reclaimable import Reclaimable, is_elastic
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.engines.local.states import Snapshots
from taketurns.errors import CapacityError
from taketurns.types import ModelSpec, Sampling

LONG, SHORT = 600, 40
HYBRID: dict[str, Any] = {
    "config_class": Qwen3_5TextConfig,
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 16,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


class Meter:
    """The most bytes that lanes and parked answers held at any moment, copies included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = self.peak_lanes = self.moved_out = 0
        self._pools: weakref.WeakSet[LanePool] = weakref.WeakSet()
        self._answers: weakref.WeakSet[Parked] = weakref.WeakSet()
        begin, park, step = LanePool.__init__, Parked.__init__, LaneRunner.step
        make, move_out = Reclaimable.__init__, LanePool._move_out

        def begun(pool: LanePool, *arguments: Any) -> None:
            begin(pool, *arguments)
            self._pools.add(pool)

        def parked(answer: Parked, *arguments: Any) -> None:
            park(answer, *arguments)
            self._answers.add(answer)

        def stepped(runner: LaneRunner) -> None:
            step(runner)
            self._look()

        def made(tensor: Reclaimable, *arguments: Any) -> None:
            make(tensor, *arguments)
            self._tensors.add(tensor)
            self._look()

        def moved_out(pool: LanePool, place: int) -> None:
            move_out(pool, place)
            self.moved_out += 1

        self._tensors: weakref.WeakSet[Reclaimable] = weakref.WeakSet()
        monkeypatch.setattr(LanePool, "__init__", begun)
        monkeypatch.setattr(Parked, "__init__", parked)
        monkeypatch.setattr(LaneRunner, "step", stepped)
        monkeypatch.setattr(Reclaimable, "__init__", made)
        monkeypatch.setattr(LanePool, "_move_out", moved_out)

    def _look(self) -> None:
        if any(pool.elastic for pool in self._pools):
            lanes = sum(pool.bytes_used for pool in self._pools)
        else:
            lanes = sum(tensor.data.nbytes for tensor in list(self._tensors))
            lanes += sum(pool.states.nbytes for pool in self._pools)
        answers = list(self._answers)
        segments = {id(s): s.layers for a in answers if (s := a.segment) is not None}
        for answer in answers:
            for snapshot in (answer.snapshots or Snapshots()).kept:
                segments[id(snapshot)] = snapshot.states
        parked = sum(tensor.nbytes for tensors in segments.values() for tensor in tensors)
        self.peak_lanes = max(self.peak_lanes, lanes)
        self.peak = max(self.peak, lanes + parked)


@pytest.fixture(params=["elastic", "rigid"])
def elastic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Memory as on Linux' CPUs, and as on all other devices."""
    if request.param == "rigid":
        for module in (lanes, reclaimable):
            monkeypatch.setattr(module, "is_elastic", lambda device: False)
    return is_elastic("cpu") and request.param == "elastic"


@pytest.mark.parametrize(
    ("second", "deterministic"),
    [
        pytest.param({}, True, id="alike, exact"),
        pytest.param(HYBRID, False, id="one with states, fast"),
        pytest.param({}, False, id="alike, fast", marks=pytest.mark.slow),
        pytest.param(HYBRID, True, id="one with states, exact", marks=pytest.mark.slow),
    ],
)
async def test_no_more_is_allocated_than_the_limit_says(
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    elastic: bool,
    second: dict[str, Any],
    deterministic: bool,
) -> None:
    """19 short answers and a long one, by three models that take turns and a fourth that is asked
    with another ending each time. Fault: lanes as long as the longest answer for everybody, kept by
    every model, and twice while they grow: more than twice the limit."""
    kinds = [{}, second, {}, second]
    paths = {f"m{i}": make_model(i, max_position_embeddings=2048, **kinds[i]) for i in range(4)}
    specs = {name: ModelSpec(str(path)) for name, path in paths.items()}
    probe = LocalEngine(specs, deterministic=deterministic)
    async with probe.session(0, LONG + 80):
        limit = int(1.3 * probe.reserved_bytes)
    await probe.close()

    meter = Meter(monkeypatch)
    engine = LocalEngine(specs, deterministic=deterministic, memory_bytes=limit)
    async with engine.session(0, SHORT):  # loading has measured in lanes of its own
        meter.peak = meter.peak_lanes = 0

    async def answer(seed: int) -> int:
        random = Random(seed)
        ids = [random.randrange(3, 90) for _ in range(SHORT if seed else LONG)]
        async with engine.session(seed, len(ids) + 80) as session:
            for _ in range(4):
                question = [random.randrange(3, 90) for _ in range(30)]
                await session.score("m3", [*ids, *question], [1, 2])
                ids += (
                    await session.generate(f"m{random.randrange(3)}", ids, Sampling(8))
                ).token_ids
        return len(ids)

    async with asyncio.timeout(120):
        written = await asyncio.gather(*map(answer, range(20)))
    assert min(written) > SHORT
    assert limit / 4 < meter.peak <= limit
    if not elastic:
        assert meter.peak_lanes <= limit / 2
        assert meter.moved_out
    with pytest.raises(CapacityError, match="lower max_tokens"):
        async with engine.session(1, 2 * LONG):
            pass
    await engine.close()


async def test_answers_under_a_tight_limit_are_what_they_are_without_one(
    three_models: dict[str, str], elastic: bool
) -> None:
    """Waiting for a lane, and lanes that are made anew, change no token."""
    specs = {name: ModelSpec(path) for name, path in three_models.items()}

    async def answers(limit: int | None) -> tuple[list[Any], int]:
        engine = LocalEngine(specs, deterministic=True, memory_bytes=limit)

        async def one(seed: int) -> Any:
            random = Random(seed)
            ids = [random.randrange(3, 90) for _ in range(random.choice([5, 70, 200]))]
            async with engine.session(seed, 300) as session:
                for _ in range(4):
                    ids += (
                        await session.generate(f"m{random.randrange(3)}", ids, Sampling(9))
                    ).token_ids
            return ids

        async with engine.session(0, 300):
            need = engine.reserved_bytes
        found = await asyncio.gather(*map(one, range(10)))
        await engine.close()
        return list(found), need

    plenty, need = await answers(None)
    tight, _ = await answers(need)
    assert tight == plenty
    tight, _ = await answers(3 * need)
    assert tight == plenty


async def test_a_job_beyond_what_was_admitted_fails_alone(three_models: dict[str, str]) -> None:
    """Rather than waiting for ever for a lane that cannot be."""
    specs = {name: ModelSpec(path) for name, path in three_models.items()}
    probe = LocalEngine(specs, deterministic=False)
    async with probe.session(0, 60):
        limit = probe.reserved_bytes
    await probe.close()
    engine = LocalEngine(specs, deterministic=False, memory_bytes=limit)
    async with engine.session(0, 60) as session:
        with pytest.raises(CapacityError, match="300 tokens"):
            await session.generate("m0", range(3, 203), Sampling(100))
        assert (await session.generate("m0", [5, 6, 7], Sampling(4))).token_ids
    await engine.close()
