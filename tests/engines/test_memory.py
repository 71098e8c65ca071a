"""What is admitted bounds what is allocated, to the byte."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import Qwen3_5TextConfig

from taketurns.engines.local.engine import LocalEngine, LocalSession
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
STATES = {(128, 4), (4, 16, 16)}  # of a row: the convolution's and the recurrent one


class Meter:
    """The most bytes that lanes and parked answers held at any moment, copies included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = self.peak_lanes = 0
        self._lanes: list[weakref.ref[torch.Tensor]] = []
        self._sessions: weakref.WeakSet[LocalSession] = weakref.WeakSet()
        zeros, step, begin = torch.zeros, LaneRunner.step, LocalSession.__init__

        def counted(*size: Any, **options: Any) -> torch.Tensor:
            made = zeros(*size, **options)
            if made.dim() == 5 or tuple(made.shape[1:]) in STATES:  # a layer of a pool
                self._lanes.append(weakref.ref(made))
                self._look()
            return made

        def stepped(runner: LaneRunner) -> None:
            step(runner)
            self._look()

        def begun(session: LocalSession, *arguments: Any, **named: Any) -> None:
            begin(session, *arguments, **named)
            self._sessions.add(session)

        monkeypatch.setattr(torch, "zeros", counted)
        monkeypatch.setattr(LaneRunner, "step", stepped)
        monkeypatch.setattr(LocalSession, "__init__", begun)

    def _look(self) -> None:
        lanes = [made for ref in self._lanes if (made := ref()) is not None]
        parked = [
            layer
            for session in list(self._sessions)
            for kept in list(session.parked.values())
            for layer in [
                *(layer for segment in list(kept.segments) for layer in segment.layers),
                *(state for at in (kept.snapshots or Snapshots()).kept for state in at.states),
            ]
        ]
        self.peak_lanes = max(self.peak_lanes, _bytes(lanes))
        self.peak = max(self.peak, _bytes(lanes) + _bytes(parked))


def _bytes(tensors: list[torch.Tensor]) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("second", [{}, HYBRID], ids=["alike", "one with states"])
async def test_no_more_is_allocated_than_the_limit_says(
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    deterministic: bool,
    second: dict[str, Any],
) -> None:
    """31 short answers and a long one, by three models that take turns and a fourth that is asked
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

    async def answer(seed: int) -> int:
        random = Random(seed)
        ids = [random.randrange(3, 90) for _ in range(SHORT if seed else LONG)]
        async with engine.session(seed, len(ids) + 80) as session:
            for _ in range(6):
                question = [random.randrange(3, 90) for _ in range(30)]
                await session.score("m3", [*ids, *question], [1, 2])
                ids += (
                    await session.generate(f"m{random.randrange(3)}", ids, Sampling(8))
                ).token_ids
        return len(ids)

    async with asyncio.timeout(120):
        written = await asyncio.gather(*map(answer, range(32)))
    assert min(written) > SHORT
    assert limit / 4 < meter.peak <= limit
    assert meter.peak_lanes <= limit / 2
    with pytest.raises(CapacityError, match="lower max_tokens"):
        async with engine.session(1, 2 * LONG):
            pass
    await engine.close()


async def test_answers_under_a_tight_limit_are_what_they_are_without_one(
    three_models: dict[str, str],
) -> None:
    """Waiting for a lane, and lanes that are made anew, change no token."""
    specs = {name: ModelSpec(path) for name, path in three_models.items()}

    async def answers(limit: int | None) -> tuple[list[Any], int]:
        engine = LocalEngine(specs, deterministic=True, memory_bytes=limit)

        async def one(seed: int) -> Any:
            random = Random(seed)
            ids = [random.randrange(3, 90) for _ in range(random.choice([5, 70, 200]))]
            async with engine.session(seed, 300) as session:
                for _ in range(5):
                    ids += (
                        await session.generate(f"m{random.randrange(3)}", ids, Sampling(9))
                    ).token_ids
            return ids

        async with engine.session(0, 300):
            need = engine.reserved_bytes
        found = await asyncio.gather(*map(one, range(16)))
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
