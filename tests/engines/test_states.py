"""Models whose layers keep states, side by side in lanes: linear attention, Mamba, convolutions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    GraniteMoeHybridConfig,
    Lfm2Config,
    Mamba2Config,
    MambaConfig,
    Qwen3_5TextConfig,
    Qwen3NextConfig,
)

from taketurns.engines.local.batch_invariant import Shapes
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.forward import Outputs
from taketurns.engines.local.lane_tensors import LayerShape
from taketurns.engines.local.lanes import CacheShape, LanePool
from taketurns.engines.local.state_kernels import agreeing
from taketurns.engines.local.states import Snapshot, Snapshots, StatePool, StateShape
from taketurns.types import ModelSpec, Sampling

DELTA: dict[str, Any] = {  # gated delta rule
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3.5": {"config_class": Qwen3_5TextConfig, **DELTA},
    "qwen3-next": {
        "config_class": Qwen3NextConfig,
        **DELTA,
        "mlp_only_layers": [0, 1],
        "num_experts": 0,
    },
    "lfm2": {"config_class": Lfm2Config, "layer_types": ["conv", "full_attention"]},
    "falcon-h1": {
        "config_class": FalconH1Config,
        **MAMBA,
        "mamba_d_ssm": 128,
        "head_dim": 16,
    },
    "granite": {
        "config_class": GraniteMoeHybridConfig,
        **MAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 128,
    },
    "mamba2": {
        "config_class": Mamba2Config,
        "num_heads": 8,
        "head_dim": 16,
        "state_size": 16,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "mamba": {"config_class": MambaConfig, "state_size": 8, "time_step_rank": 4},
}
HYBRIDS = ("qwen3.5", "falcon-h1", "lfm2", "mamba")
SLOW = KINDS.keys() - {"qwen3.5", "mamba"}
"""Whose fast rounds are looked at turn by turn only where all tests run."""


class Truth:
    """The logits of a checkpoint's own forward over whole texts."""

    def __init__(self, path: Path) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(path)

    def __call__(self, ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self._model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        return torch.log_softmax(logits.float(), -1)

    def before_each(self, ids: list[int], written: Sequence[int]) -> torch.Tensor:
        """The logits before each of the tokens that follow `ids`."""
        with torch.inference_mode():
            whole = self._model(torch.tensor([[*ids, *written]]), use_cache=False)
            logits: torch.Tensor = whole.logits[0, len(ids) - 1 : -1]
        return logits

    def close_to(self, seen: torch.Tensor, ids: list[int]) -> None:
        torch.testing.assert_close(seen, self(ids), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        *((kind, None) for kind in KINDS),
        *(  # those of the others are looked at side by side, below
            pytest.param(
                kind, False, marks=() if kind in ("qwen3.5", "mamba") else pytest.mark.slow
            )
            for kind in KINDS
        ),
    ],
)
async def test_lanes_say_what_a_plain_forward_says(
    make_model: Callable[..., Path], kind: str, exact: bool | None
) -> None:
    """After other tokens were appended, after rewinds to before and into the last patch, with a
    question that is dropped, and from a fork."""
    path = make_model(3, **KINDS[kind])
    truth = Truth(path)
    random = Random(0)

    def some(count: int) -> list[int]:
        return [random.randrange(40, 90) for _ in range(count)]

    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=exact)
    async with engine.session(1, 400) as session:
        assert engine.running("m").keeps_cache
        ids = some(5)
        for others in (0, 1, 40, 3, -30, 2, -4, 0, 9, -1):
            ids = ids[:others] if others < 0 else ids + some(others)
            written = await session.generate("m", ids, Sampling(7, temperature=0))
            logits = truth.before_each(ids, written.token_ids)
            assert written.token_ids == tuple(logits.argmax(-1).tolist())
            question = [*ids, *written.token_ids, *some(6)]
            truth.close_to(await session.next_logprobs("m", question), question)
            ids += written.token_ids
            truth.close_to(await session.next_logprobs("m", ids), ids)
        async with session.fork(2) as fork, session.fork(3) as other:
            for continued, tail in ((fork, [50, 51]), (other, [60])):
                truth.close_to(await continued.next_logprobs("m", ids + tail), ids + tail)
        truth.close_to(await session.next_logprobs("m", [*ids, 70]), [*ids, 70])
    await engine.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_of_unlike_lengths_keep_their_own_states(
    make_model: Callable[..., Path], kind: str
) -> None:
    """Side by side, in fast rounds, with turns of unlike lengths, so that lanes move."""
    path = make_model(3, **KINDS[kind])
    truth = Truth(path)
    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=False, max_batch=5)

    async def answer(seed: int) -> list[tuple[list[int], tuple[int, ...]]]:
        random = Random(seed)
        ids = [random.randrange(40, 90) for _ in range(random.choice([1, 3, 17, 40, 41]))]
        turns = []
        async with engine.session(seed, 200) as session:
            for _ in range(3):
                ids = ids + [random.randrange(40, 90) for _ in range(random.choice([0, 1, 5]))]
                sampling = Sampling(random.randint(1, 9), temperature=0)
                written = (await session.generate("m", ids, sampling)).token_ids
                turns.append((ids, written))
                ids = [*ids, *written]
        return turns

    answers = await asyncio.gather(*map(answer, range(12)))
    await engine.close()
    for ids, written in (turn for turns in answers for turn in turns):
        for token, logits in zip(written, truth.before_each(ids, written), strict=True):
            assert logits[token] >= logits.max() - 1e-3


@pytest.mark.parametrize("kind", ["qwen3.5", "mamba2"])
async def test_a_turn_reads_only_what_is_new(make_model: Callable[..., Path], kind: str) -> None:
    """Also after a dropped question, once the place where it is dropped is known, and where the
    last patch is written anew."""
    engine = LocalEngine({"m": ModelSpec(str(make_model(3, **KINDS[kind])))}, deterministic=True)
    random = Random(0)

    async def read(work: Any) -> int:
        before = engine.counters("m").encoded_tokens
        await work
        return engine.counters("m").encoded_tokens - before

    def some(count: int) -> list[int]:
        return [random.randrange(40, 90) for _ in range(count)]

    async with engine.session(1, 400) as session:
        ids, question = some(100), some(8)
        assert await read(session.score("m", ids + question, [1])) == 108
        ids += some(5)
        assert await read(session.score("m", ids + question, [1])) == 113  # not expected yet
        for _ in range(3):
            ids += some(5)
            assert await read(session.score("m", ids + question, [1])) == 13
    async with engine.session(1, 400) as session:
        ids = some(100)
        await session.read("m", ids)
        async with session.fork(2) as fork:
            assert await read(fork.generate("m", ids, Sampling(3))) == 1
        first = await session.generate("m", ids, Sampling(9, temperature=0))
        assert await read(session.generate("m", ids, Sampling(9))) == 1
        ids += [*first.token_ids[:4], *some(2)]
        assert await read(session.generate("m", ids, Sampling(9))) <= 6 + 1
        assert session.parked["m"].snapshots is not None
        assert len(session.parked["m"].snapshots.kept) <= 3
    await engine.close()


async def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(
    make_model: Callable[..., Path],
) -> None:
    """Bitwise, over random batch compositions of models with states: turns, dropped questions,
    rewinds and forks."""
    specs = {kind: ModelSpec(str(make_model(1, **KINDS[kind]))) for kind in HYBRIDS}

    async def answer(engine: LocalEngine, seed: int) -> list[Any]:
        random = Random(seed)
        ids = [random.randrange(3, 90) for _ in range(random.randint(1, 40))]
        log: list[Any] = []
        async with engine.session(seed, 400) as session:
            for _ in range(4):
                model = random.choice(HYBRIDS)
                question = [random.randrange(3, 90) for _ in range(random.randint(0, 4))]
                log.append(tuple(await session.score(model, ids + question, [5, 6, 7])))
                sampling = Sampling(random.randint(1, 12), temperature=random.choice([0.0, 1.2]))
                written = await session.generate(model, ids, sampling)
                log.append(written.token_ids)
                ids = [*ids, *written.token_ids]
                if random.random() < 0.3:
                    ids = ids[: -random.randint(1, 6)] or ids
                if random.random() < 0.3:
                    async with session.fork(seed) as fork:
                        log.append((await fork.hidden(model, ids, [-1])).tolist())
        return log

    engine = LocalEngine(specs, deterministic=True)
    alone = {seed: await answer(engine, seed) for seed in range(9)}
    await engine.close()

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True), st.integers(1, 20))
    def holds(seeds: list[int], max_batch: int) -> None:
        async def together() -> list[list[Any]]:
            crowd = LocalEngine(specs, deterministic=True, max_batch=max_batch)
            answers = await asyncio.gather(*(answer(crowd, seed) for seed in seeds))
            await crowd.close()
            return list(answers)

        assert asyncio.run(together()) == [alone[seed] for seed in seeds]

    await asyncio.to_thread(holds)


SHAPE = CacheShape(
    (LayerShape(0, 0, 0, torch.float32, torch.device("cpu")),),
    (StateShape((0, "recurrent", 0), (3,), torch.float32, torch.device("cpu")),),
)


def filled(lanes: int) -> StatePool:
    """A pool whose lane `i` has the state `i + 1`."""
    pool = StatePool(SHAPE.states)
    pool.reserve(lanes, 0)
    for lane in range(lanes):
        pool.load(lane, Snapshot(1, (torch.full((3,), lane + 1.0),)))
    return pool


def content(pool: StatePool, lanes: int) -> list[float]:
    return [float(pool.save(lane, 1).states[0][0]) for lane in range(lanes)]


@pytest.mark.parametrize(
    ("first", "fed", "rows", "lanes", "after"),
    [
        (0, [1, 1], 2, 2, [11.0, 12.0, 3.0, 4.0, 5.0]),
        (1, [1, 1], 2, 5, [1.0, 12.0, 13.0, 4.0, 5.0]),
        (0, [1], 4, 5, [11.0, 2.0, 3.0, 4.0, 5.0]),  # padding over lanes of others
        (3, [1, 1], 4, 5, [1.0, 2.0, 3.0, 14.0, 15.0]),  # padding beyond what is allocated
        (0, [1, 0, 1], 3, 5, [11.0, 2.0, 13.0, 4.0, 5.0]),  # one waits
    ],
)
def test_a_forward_changes_the_states_of_its_own_rows(
    first: int, fed: list[int], rows: int, lanes: int, after: list[float]
) -> None:
    pool = filled(5)
    with pool.reading(first, fed, rows, lanes):
        state = pool.state((0, "recurrent", 0))
        assert state is not None
        assert state.shape == (rows, 3)
        state += 10.0
        assert pool.state((1, "recurrent", 0)) is None
    assert content(pool, 5) == after


def test_lanes_that_grow_move_or_fail_keep_the_states_of_others() -> None:
    pool = filled(3)
    pool.reserve(6, 3)
    assert content(pool, 6) == [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]
    pool.move(2, 0)
    pool.load(1, Snapshot(1, (torch.full((3,), float("nan")),)))
    pool.wipe(1)
    assert content(pool, 3) == [3.0, 0.0, 3.0]


def test_snapshots_know_where_the_next_prompt_leaves_the_last() -> None:
    def taken(*positions: int) -> list[Snapshot]:
        return [Snapshot(position, (torch.zeros(3),)) for position in positions]

    snapshots = Snapshots()
    assert (snapshots.tail(scored=True), snapshots.tail(scored=False)) == (1, 0)
    snapshots.extend(taken(9), 10, scored=True)
    snapshots.learn(4)
    assert (snapshots.tail(scored=True), snapshots.tail(scored=False)) == (6, 0)
    assert [snapshots.before(tokens) for tokens in (8, 9, 20)] == [0, 9, 9]
    snapshots.extend(taken(12, 14, 18), 14, scored=False)
    fork = snapshots.fork()
    snapshots.truncate(13)
    assert [snapshot.position for snapshot in snapshots.kept] == [12]
    assert [snapshot.position for snapshot in fork.kept] == [12, 14, 18]
    assert fork.kept[0] is snapshots.kept[0]
    snapshots.learn(16)
    assert (snapshots.tail(scored=True), snapshots.tail(scored=False)) == (6, 0)


@pytest.mark.parametrize(("limit", "most"), [(64, 64), (12, 12), (2, 4)])
def test_larger_batches_than_agree_bit_by_bit_are_not_made(limit: int, most: int) -> None:
    """A kernel whose last bits change where more than `limit` rows are computed together."""

    def step(ids: Any, positions: Any, cache: LanePool) -> Outputs:
        state = cache.get_recurrent_state(0)
        assert state is not None
        state *= 1.5 if len(ids) <= limit else 1.5 + 1e-6 * len(ids)
        return Outputs(state, state[:, None])

    shapes: Any = agreeing(step, SHAPE, Shapes(4, 64, True), 64)  # type: ignore[arg-type]
    assert (shapes.rows, shapes.most, shapes.together) == (4, most, False)
