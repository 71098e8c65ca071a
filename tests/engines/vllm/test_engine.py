"""The engine's own bookkeeping, over fake engines: starting, failing, ending, and turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.team_config import EngineConfig
from taketurns.engines.vllm.engine import VllmEngine
from taketurns.errors import CapacityError, ConfigError, EngineError, UnavailableError
from taketurns.types import Candidate, ModelSpec, Sampling, Token

from .fake import FakeLLM, fake_library, following

GREEDY = Sampling(8, 0.0, 1.0)
KEPT = EngineConfig(kind="vllm", open_requests=True)
FRESH = EngineConfig(kind="vllm", open_requests=False)
AHEAD = {"async_scheduling": True}
PROMPT = [10, 11, 12]


@dataclass
class Made:
    """An engine and the fake engines that it started."""

    engine: VllmEngine
    fakes: list[FakeLLM]


Make = Callable[..., Made]


@pytest.fixture
async def make(three_models: dict[str, str]) -> AsyncIterator[Make]:
    made: list[Made] = []

    def new(
        settings: EngineConfig | None = None, cpu: bool = True, **specs: ModelSpec | str
    ) -> Made:
        models = [
            Candidate(name, spec if isinstance(spec, ModelSpec) else ModelSpec(spec))
            for name, spec in (specs or {"m0": three_models["m0"]}).items()
        ]
        fakes: list[FakeLLM] = []
        engine = VllmEngine(models, settings, library=fake_library(fakes, cpu=cpu))
        made.append(Made(engine, fakes))
        return made[-1]

    yield new
    for each in made:
        await each.engine.close()


def written(prompt: list[int], tokens: int) -> tuple[int, ...]:
    held = list(prompt)
    for _ in range(tokens):
        held.append(following(held))
    return tuple(held[len(prompt) :])


async def test_a_patch_is_what_the_model_writes(make: Make) -> None:
    made = make(FRESH)
    seen: list[Token] = []
    async with made.engine.session(1) as session:
        done = await session.generate("m0", PROMPT, GREEDY, seen.append)
    assert done.token_ids == written(PROMPT, 8) == tuple(token.id for token in seen)
    assert done.finish == "length"
    counters = made.engine.counters("m0")
    assert (counters.requests, counters.written_tokens, counters.prompt_tokens) == (1, 8, 3)
    assert made.fakes[0].executor.startswith("tied executor")
    assert not made.fakes[0].open


@pytest.mark.parametrize(
    ("cpu", "bind", "arguments", "alone"),
    [
        (True, "nobind", {}, True),
        (True, "auto", {}, False),
        (True, None, {}, False),
        (True, "nobind", {"tensor_parallel_size": 2}, False),
        (True, "nobind", {"distributed_executor_backend": "mp"}, False),
        (False, "nobind", {}, False),
    ],
)
async def test_a_single_worker_on_a_cpu_has_no_process_of_its_own(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    cpu: bool,
    bind: str | None,
    arguments: dict[str, Any],
    alone: bool,
) -> None:
    """Unless the user binds threads to cores, or asks for it."""
    if bind is None:
        monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    else:
        monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", bind)
    made = make(EngineConfig(kind="vllm", vllm=arguments), cpu)
    await made.engine.load("m0")
    assert made.fakes[0].executor == f"tied executor{', alone' if alone else ''}"


@pytest.mark.parametrize("settings", [FRESH, KEPT])
async def test_a_patch_comes_token_by_token_only_where_that_is_needed(
    make: Make, settings: EngineConfig
) -> None:
    """Also in an open request, which keeps to what it was opened with."""
    made = make(settings)
    prompt, seen, counts = list(PROMPT), list[Token](), list[int]()
    async with made.engine.session(1, 256) as session:
        for sampling, on_token in (
            (GREEDY, None),
            (Sampling(6, 0.0, 1.0, choices=(5, 6)), None),
            (GREEDY, seen.append),
            (GREEDY, None),
            (GREEDY, None),
            (Sampling(8, 0.0, 1.0, stop=("never written",)), None),
        ):
            before = made.fakes[0].outputs if made.fakes else 0
            done = await session.generate("m0", prompt, sampling, on_token)
            assert done.token_ids == written(prompt, sampling.max_tokens)
            counts.append(made.fakes[0].outputs - before)
            prompt += [*done.token_ids, 100]
    again = 1 if settings is KEPT else 2  # an open request has had its first token
    assert counts == [2, 2, 8, 2, again, 8]
    assert len(seen) == 8


async def test_the_prompt_given_is_not_changed(make: Make) -> None:
    """vLLM extends the list of a first prompt in place."""
    made = make(KEPT)
    prompt = list(PROMPT)
    async with made.engine.session(1) as session:
        await session.generate("m0", prompt, GREEDY)
    assert prompt == PROMPT


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (FRESH, False),
        (KEPT, True),
        (EngineConfig(kind="vllm"), True),
        (EngineConfig(kind="vllm", vllm=AHEAD), False),
        (EngineConfig(kind="vllm", vllm=AHEAD, open_requests=True), True),
    ],
)
async def test_turns_continue_the_answer(make: Make, settings: EngineConfig, kept: bool) -> None:
    """Open requests write what fresh ones do, and are given only what is new."""
    made = make(settings)
    prompt = list(PROMPT)
    async with made.engine.session(1, 256) as session:
        for turn in range(4):
            done = await session.generate("m0", prompt, GREEDY)
            assert done.token_ids == written(prompt, 8)
            prompt += [*done.token_ids, *range(100, 105 + turn)]
    sizes = list(map(len, made.fakes[0].asked))
    assert sizes == ([3, 6, 7, 8] if kept else [3, 16, 30, 45])
    assert made.engine.counters("m0").cached_tokens == (10 + 23 + 37 if kept else 0)
    await asyncio.sleep(0.05)
    assert not made.fakes[0].open


async def test_a_folded_head_needs_no_token_again(make: Make) -> None:
    """The token more that is written for the choices is the one that vLLM drops."""
    made = make(KEPT)
    sampling = Sampling(8, 0.0, 1.0, choices=(5, 6))
    async with made.engine.session(1, 256) as session:
        done = await session.generate("m0", PROMPT, sampling)
        after = [*PROMPT, *done.token_ids]
        assert done.scores == tuple(-float((i + len(after)) % 7) for i in (5, 6))
        assert await session.score("m0", after, [5, 6]) == list(done.scores)
        await session.generate("m0", [*after, 1, 2], sampling)
    assert made.fakes[0].asked[-1] == [1, 2]


async def test_what_does_not_continue_an_open_request_opens_another(make: Make) -> None:
    """A patch taken back, a sampled patch, and one that ends before its request."""
    made = make(KEPT)
    asked = made.fakes
    async with made.engine.session(1, 256) as session:
        first = await session.generate("m0", PROMPT, GREEDY)
        other = [*PROMPT, *first.token_ids[:2], 99]
        assert (await session.generate("m0", other, GREEDY)).token_ids == written(other, 8)
        assert asked[0].asked[-1] == other
        text = (await made.engine.info("m0")).codec.decode(written(other, 8)[:4])
        stop = Sampling(8, 0.0, 1.0, stop=(text[-1],))
        done = await session.generate("m0", [*other, 7], stop)
        assert done.finish in ("stop", "length")
        more = [*other, 7, *done.token_ids, 8]
        assert (await session.generate("m0", more, GREEDY)).token_ids == written(more, 8)
        hot = Sampling(8, 0.7, 0.9)
        await session.generate("m0", more, hot)
        assert asked[0].asked[-1] == more
    await asyncio.sleep(0.05)
    assert not asked[0].open


async def test_open_requests_leave_room_for_others(make: Make) -> None:
    """Beyond half of an engine's places or memory, a patch is a request of its own."""
    made = make(EngineConfig(kind="vllm", open_requests=True, vllm={"max_num_seqs": 4}))
    async with (
        made.engine.session(1, 64) as one,
        made.engine.session(2, 64) as two,
        made.engine.session(3, 64) as three,
    ):
        for session in (one, two, three):
            await session.generate("m0", PROMPT, GREEDY)
        assert len(made.fakes[0].open) == 2
    async with made.engine.session(4, 2048) as long:
        await long.generate("m0", PROMPT, GREEDY)
    await asyncio.sleep(0.05)
    async with made.engine.session(5, 64) as again:
        await again.generate("m0", PROMPT, GREEDY)
        assert len(made.fakes[0].open) == 1


async def test_a_cancelled_patch_ends_its_request(make: Make) -> None:
    for settings in (FRESH, KEPT):
        made = make(settings)
        await made.engine.load("m0")
        made.fakes[0].pause = lambda: asyncio.sleep(60)
        async with made.engine.session(1, 64) as session:
            writing = asyncio.create_task(session.generate("m0", PROMPT, GREEDY))
            await asyncio.sleep(0.1)
            assert made.fakes[0].open
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await asyncio.sleep(0.1)
        assert not made.fakes[0].open


async def test_what_forks_share_is_read_before_them(make: Make) -> None:
    made = make(FRESH)
    async with made.engine.session(1) as session:
        await session.read("m0", PROMPT)
        async with session.fork(2) as fork:
            done = await fork.generate("m0", [*PROMPT, 5], GREEDY)
    assert done.token_ids == written([*PROMPT, 5], 8)
    assert made.fakes[0].asked == [PROMPT, [*PROMPT, 5]]


async def test_equal_models_share_an_engine(make: Make, three_models: dict[str, str]) -> None:
    made = make(None, a=three_models["m0"], b=three_models["m1"], switcher=three_models["m0"])
    await made.engine.load("a")
    assert len(made.fakes) == 2


@pytest.mark.parametrize(("cpu", "engines"), [(True, 3), (False, 1)])
async def test_adapters_share_an_engine_except_on_a_cpu(
    make: Make, three_models: dict[str, str], cpu: bool, engines: int, tmp_path: Path
) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text('{"r": 20}')
    base = three_models["m0"]
    made = make(
        None,
        cpu,
        plain=base,
        x=ModelSpec(base, adapter=str(tmp_path / "x")),
        y=ModelSpec(base, adapter=str(tmp_path / "y")),
    )
    await made.engine.load("x")
    assert len(made.fakes) == engines
    adapted = [
        fake.vllm_config.arguments for fake in made.fakes if fake.vllm_config.arguments.enable_lora
    ]
    assert {each.max_lora_rank for each in adapted} == {32}


async def test_one_engine_that_does_not_start_ends_the_others(
    make: Make, three_models: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.symlink_to(three_models["m1"])
    made = make(None, a=three_models["m0"], b=str(broken))
    with pytest.raises(EngineError, match="the vLLM engine of b did not start"):
        await made.engine.load("a")
    assert all(fake.ended for fake in made.fakes)


async def test_a_model_that_vllm_cannot_run_is_refused_before_anything_starts(
    make: Make, three_models: dict[str, str], tmp_path: Path
) -> None:
    odd = tmp_path / "unsupported"
    odd.symlink_to(three_models["m1"])
    made = make(None, a=three_models["m0"], b=str(odd))
    with pytest.raises(ConfigError, match=r"vLLM cannot run b .* not supported"):
        await made.engine.load("a")
    assert not made.fakes


async def test_a_wrong_adapter_is_refused(make: Make, three_models: dict[str, str]) -> None:
    made = make(None, False, a=ModelSpec(three_models["m0"], adapter="wrong/adapter"))
    with pytest.raises(ConfigError, match="vLLM cannot load the adapter of a"):
        await made.engine.load("a")
    assert made.fakes[0].ended


async def test_too_little_memory_is_refused_before_anything_starts(make: Make) -> None:
    made = make(EngineConfig(kind="vllm", memory_bytes=1 << 60))
    with pytest.raises(CapacityError, match=r"1 vLLM engines need .* are free"):
        await made.engine.load("m0")
    small = make(EngineConfig(kind="vllm", memory_bytes=1 << 16))
    with pytest.raises(CapacityError, match="an answer of 512 tokens"):
        await small.engine.load("m0")
    assert not made.fakes + small.fakes


async def test_a_dead_engine_ends_its_patches_and_others_live(
    make: Make, three_models: dict[str, str]
) -> None:
    made = make(None, a=three_models["m0"], b=three_models["m1"])
    await made.engine.load("a")
    made.fakes[0].dead = True
    async with made.engine.session(1) as session:
        with pytest.raises(UnavailableError, match="the vLLM engine of a has ended"):
            await session.generate("a", PROMPT, GREEDY)
        with pytest.raises(UnavailableError, match="the vLLM engine of a has ended"):
            await session.score("a", PROMPT, [1])
        await session.generate("b", PROMPT, GREEDY)
    assert made.engine.failure is None
    made.fakes[1].dead = True
    assert "all vLLM engines" in str(made.engine.failure)


async def test_a_request_that_ends_too_early_is_an_error(make: Make) -> None:
    made = make()
    await made.engine.load("m0")
    made.fakes[0].end_after = 3
    async with made.engine.session(1) as session:
        with pytest.raises(EngineError, match="ended a patch of m0 after 3 tokens"):
            await session.generate("m0", PROMPT, GREEDY)


async def test_it_ends_what_it_started_and_then_refuses(make: Make) -> None:
    made = make()
    await made.engine.load("m0")
    await made.engine.close()
    assert made.fakes[0].ended
    with pytest.raises(EngineError, match="the engine is closed"):
        async with made.engine.session(1) as session:
            await session.generate("m0", PROMPT, GREEDY)


def test_it_serves_one_event_loop_after_another(three_models: dict[str, str]) -> None:
    fakes: list[FakeLLM] = []
    models = [Candidate("m0", ModelSpec(three_models["m0"]))]
    engine = VllmEngine(models, library=fake_library(fakes))

    async def ask() -> Any:
        async with engine.session(1) as session:
            return await session.generate("m0", PROMPT, GREEDY)

    first, second = asyncio.run(ask()), asyncio.run(ask())
    assert first.token_ids == second.token_ids
    assert len(fakes) == 1
    asyncio.run(engine.close())


async def test_engines_on_one_gpu_have_parts_of_it(
    make: Make, three_models: dict[str, str]
) -> None:
    """By their weights; the team file's own numbers stay."""
    models = {
        "a": ModelSpec(three_models["m0"]),
        "b": ModelSpec(three_models["m1"], device="cuda:0"),
        "c": ModelSpec(three_models["m2"], device="cuda:1", vllm={"gpu_memory_utilization": 0.5}),
    }
    made = make(EngineConfig(kind="vllm", memory_bytes=3 << 20), False, **models)
    await made.engine.load("a")
    caches = {
        fake.vllm_config.model_config.model: fake.vllm_config.cache_config for fake in made.fakes
    }
    a, b, c = (caches[three_models[name]] for name in ("m0", "m1", "m2"))
    assert a.gpu_memory_utilization + b.gpu_memory_utilization == pytest.approx(0.9, abs=1e-3)
    assert (a.kv_cache_memory_bytes, c.kv_cache_memory_bytes) == (1 << 20, None)
    assert c.gpu_memory_utilization == 0.5
