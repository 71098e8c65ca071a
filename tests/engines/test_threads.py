"""Models in several threads: at the same time, with the answers of one thread, and no caller left
waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.forward import Forward
from taketurns.engines.local.loading import base_of
from taketurns.engines.local.placement import device_of, group_models
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.errors import EngineError
from taketurns.types import Completion, ModelSpec, Sampling

NAMES = ("m0", "m1", "m2")
PROMPT = tuple(range(40, 80))


def average(logprobs: Tensor) -> Tensor:
    return logprobs.mean(1)


def engine_for(models: dict[str, str], parallel: int, **options: Any) -> LocalEngine:
    specs = {name: ModelSpec(path) for name, path in models.items()}
    return LocalEngine(specs, parallel=parallel, **options)


def thread_of(engine: LocalEngine, model: str) -> Any:
    return engine._threads._threads[model]


def runner_of(engine: LocalEngine, model: str) -> Any:
    return thread_of(engine, model)._runners[model]


def idle(engine: LocalEngine) -> bool:
    """Whether no lane and no memory is held."""
    runners = [runner for thread in engine._threads._distinct for runner in thread.runners.values()]
    return engine.reserved_bytes == 0 and not any(runner.busy for runner in runners)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def write(engine: LocalEngine, model: str, seed: int, tokens: int = 20) -> Completion:
    async with engine.session(seed, 400) as session:
        return await session.generate(model, PROMPT, Sampling(tokens))


async def write_together(
    engine: LocalEngine, models: tuple[str, ...], seed: int, tokens: int = 20
) -> Completion:
    prompts = [PROMPT[: 10 + 7 * place] for place in range(len(models))]
    async with engine.session(seed, 400) as session:
        return await session.generate_together(models, prompts, Sampling(tokens), average)


# Which models share a thread


def test_each_device_has_a_thread() -> None:
    specs = {
        "a": ModelSpec("x", device="cuda"),
        "b": ModelSpec("y", device="cuda:1"),
        "c": ModelSpec("z", device="cuda:0"),
        "d": ModelSpec("x", device_map={"": 1}),
        "e": ModelSpec("x", device_map="auto"),
        "f": ModelSpec("x", device_map={"lm_head": 0, "model": 1}),
        "g": ModelSpec("y", device="cpu"),
        "h": ModelSpec("x", device="cpu:0"),
    }
    groups = group_models(specs, 1)
    assert [(group.device, group.models) for group in groups] == [
        ("cuda:0", ("a", "c")),
        ("cuda:1", ("b", "d")),
        (None, ("e", "f")),
        ("cpu", ("g", "h")),
    ]


SPECS = st.builds(
    ModelSpec,
    st.sampled_from(["x", "y", "z"]),
    adapter=st.sampled_from([None, "p", "q"]),
    device=st.sampled_from(["cpu", "cpu", "cuda", "cuda:1"]),
    device_map=st.sampled_from([None, None, "auto", {"": 0}]),
)


@given(st.lists(SPECS, min_size=1, max_size=9), st.integers(1, 4))
def test_weights_that_are_shared_have_one_thread(listed: list[ModelSpec], parallel: int) -> None:
    specs = {str(place): spec for place, spec in enumerate(listed)}
    groups = group_models(specs, parallel)
    assert sorted(name for group in groups for name in group.models) == sorted(specs)
    threads = defaultdict(set)
    for number, group in enumerate(groups):
        for name in group.models:
            threads[base_of(specs[name])].add(number)
            assert device_of(specs[name]) == group.device
    assert all(len(numbers) == 1 for numbers in threads.values())
    devices = Counter(group.device for group in groups)
    on_cpu = {base_of(spec) for spec in listed if device_of(spec) == "cpu"}
    assert devices.pop("cpu", 0) == min(parallel, len(on_cpu))
    assert set(devices.values()) <= {1}


# The same answers


async def _answer(engine: LocalEngine, seed: int) -> list[Any]:
    """An answer of several turns, scores, states, a fork and what models wrote together."""
    random = Random(seed)
    ids = [random.randrange(3, 90) for _ in range(random.randint(1, 70))]
    log: list[Any] = []
    async with engine.session(seed, 400) as session:
        for _ in range(4):
            model, other = random.sample(NAMES, 2)
            log.append(tuple(await session.score(model, ids, [5, 6, 7])))
            log.append((await session.hidden(other, ids, (0, -1))).tolist())
            sampling = Sampling(random.randint(1, 12), temperature=random.choice([0.0, 0.7, 1.2]))
            if random.random() < 0.5:
                prompts = [ids, ids[: 1 + len(ids) // 2]]
                found = await session.generate_together([model, other], prompts, sampling, average)
            else:
                found = await session.generate(model, ids, sampling)
            ids += found.token_ids
            log.append((found.token_ids, found.finish, found.cached_tokens))
        async with session.fork(seed + 1) as fork:
            log.append((await fork.generate("m2", ids, Sampling(6))).token_ids)
    return log


@pytest.mark.parametrize("parallel", [2, 3])
async def test_answers_are_those_of_one_thread(three_models: dict[str, str], parallel: int) -> None:
    """Bitwise: tokens, scores and states, whichever thread was ahead."""
    one = engine_for(three_models, 1, deterministic=True)
    expected = [await _answer(one, seed) for seed in range(5)]
    several = engine_for(three_models, parallel, deterministic=True)
    found = await asyncio.gather(*(_answer(several, seed) for seed in range(5)))
    assert len({thread_of(several, name) for name in NAMES}) == parallel
    assert len({thread_of(one, name) for name in NAMES}) == 1
    assert list(found) == expected
    for name in NAMES:
        counted = one.counters(name), several.counters(name)
        assert counted[0].encoded_tokens == counted[1].encoded_tokens
        assert counted[0].written_tokens == counted[1].written_tokens
    assert idle(several)
    await one.close()
    await several.close()


async def test_adapters_stay_with_their_base(
    three_models: dict[str, str], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Fault: one thread switches the adapter under the forward of another."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    from taketurns.engines.local.library_logging import asked_by_an_old_name

    base = str(make_model(5))
    specs = {"base": ModelSpec(base), "m0": ModelSpec(three_models["m0"])}
    for seed, name in enumerate(("p", "q")):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"])
        with asked_by_an_old_name():
            tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        tuned.save_pretrained(tmp_path / name)
        specs[name] = ModelSpec(base, adapter=str(tmp_path / name))
    one = LocalEngine(specs, deterministic=True)
    several = LocalEngine(specs, deterministic=True, parallel=4)
    expected = {name: (await write(one, name, 3)).token_ids for name in specs}
    found = await asyncio.gather(*(write(several, name, 3) for name in [*specs] * 5))
    assert [c.token_ids for c in found] == [expected[name] for name in [*specs] * 5]
    assert len({tuple(tokens) for tokens in expected.values()}) == 4
    threads = {name: thread_of(several, name) for name in specs}
    assert threads["base"] is threads["p"] is threads["q"] is not threads["m0"]
    await one.close()
    await several.close()


# At the same time


async def test_models_step_at_the_same_time(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step waits until the other model is in a step too, which one thread never reaches."""
    engine = engine_for({name: three_models[name] for name in NAMES[:2]}, 2)
    await asyncio.gather(write(engine, "m0", 0), write(engine, "m1", 0))
    both = threading.Barrier(2)
    step = LaneRunner.step

    def meet(runner: LaneRunner) -> None:
        if met := len(steps[runner]) < 10:
            both.wait(60)
        steps[runner].append(met)
        step(runner)

    steps: defaultdict[LaneRunner, list[bool]] = defaultdict(list)
    monkeypatch.setattr(LaneRunner, "step", meet)
    await asyncio.gather(write(engine, "m0", 0), write(engine, "m1", 0))
    assert [sum(met) for met in steps.values()] == [10, 10]
    await engine.close()


async def test_a_thread_that_waits_for_another_model_sleeps(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: it made empty rounds until the other model gave its logits."""
    engine = engine_for(three_models, 3)
    await write_together(engine, ("m0", "m1"), 0)
    held, go = threading.Event(), threading.Event()
    slow = runner_of(engine, "m1")
    forward, step = slow.forward, LaneRunner.step
    steps: Counter[str] = Counter()

    def wait(*args: Any) -> Any:
        held.set()
        assert go.wait(60)
        return forward(*args)

    def count(runner: LaneRunner) -> None:
        steps["m0"] += runner is runner_of(engine, "m0")
        step(runner)

    monkeypatch.setattr(slow, "forward", wait)
    monkeypatch.setattr(LaneRunner, "step", count)
    writing = asyncio.create_task(write_together(engine, ("m0", "m1"), 1))
    await until(held.is_set)
    await until(lambda: steps["m0"] > 0)
    before = engine.counters("m2").forwards
    await write(engine, "m2", 2)  # other threads go on
    assert engine.counters("m2").forwards > before
    assert steps["m0"] <= 3  # one encodes the prompt, one finds nothing to do
    assert (await write(engine, "m0", 5)).token_ids  # so does the one that waits
    go.set()
    assert len((await writing).token_ids) == 20
    await engine.close()


async def test_exact_rounds_are_measured_in_the_models_own_thread(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread has its own number of threads an operation, whatever another one sets; by
    default the threads on the CPU divide those of the process."""
    used: defaultdict[int, set[tuple[str, int]]] = defaultdict(set)
    measure, call = batch_invariant.measure, Forward.__call__

    def measured(model: Any, lanes: int) -> Any:
        used[model.config.num_hidden_layers].add(
            (threading.current_thread().name, torch.get_num_threads())
        )
        return measure(model, lanes)

    def called(forward: Forward, *args: Any, **keywords: Any) -> Any:
        used[-forward._model.config.num_hidden_layers].add(
            (threading.current_thread().name, torch.get_num_threads())
        )
        return call(forward, *args, **keywords)

    monkeypatch.setattr(batch_invariant, "measure", measured)
    monkeypatch.setattr("taketurns.engines.local.worker.SMALL_MODEL", 150_000)
    models = {str(n): str(make_model(n, num_hidden_layers=n)) for n in (1, 5, 6)}
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    engine = engine_for(models, 3)
    try:
        for name in models:
            await engine.load(name)
        monkeypatch.setattr(Forward, "__call__", called)
        await asyncio.gather(*(write(engine, name, 0) for name in models))
        threads = {int(name): thread_of(engine, name).name for name in models}
    finally:
        await engine.close()
        torch.set_num_threads(before)
    assert all(engine.running(name).exact for name in models)
    expected = {n: {(threads[n], 1 if n == 1 else 2)} for n in (1, 5, 6)}
    assert {n: used[-n] for n in expected} == expected
    assert {n: used[n] & expected[n] for n in expected} == expected


# Cancellation and failures


async def test_a_cancelled_text_leaves_no_lane_in_any_thread(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(three_models, 3)
    for stopped in NAMES:
        await write_together(engine, NAMES, 0, 3)
        held, go = threading.Event(), threading.Event()
        runner = runner_of(engine, stopped)
        forward = runner.forward

        def wait(
            *args: Any, held: Any = held, go: Any = go, forward: Any = forward
        ) -> Any:  # the other two wait for its logits
            held.set()
            assert go.wait(60)
            return forward(*args)

        with monkeypatch.context() as patch:
            patch.setattr(runner, "forward", wait)
            writing = asyncio.create_task(write_together(engine, NAMES, 1, 300))
            await until(held.is_set)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            go.set()
            await until(lambda: idle(engine))
    await engine.close()


async def test_a_failure_in_one_thread_frees_the_lanes_of_the_others(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(three_models, 3, deterministic=True)
    expected = (await write_together(engine, NAMES, 1)).token_ids
    for failing in NAMES:
        runner = runner_of(engine, failing)
        forward = runner.forward
        calls: list[int] = []

        def fail(*args: Any, forward: Any = forward, calls: list[int] = calls) -> Any:
            calls.append(1)
            if len(calls) == 7:
                raise RuntimeError("out of luck")
            return forward(*args)

        with monkeypatch.context() as patch:
            patch.setattr(runner, "forward", fail)
            with pytest.raises(EngineError, match="RuntimeError: out of luck"):
                await write_together(engine, NAMES, 1)
        await until(lambda: idle(engine))
        assert (await write_together(engine, NAMES, 1)).token_ids == expected
    assert engine.failure is None
    await engine.close()


async def test_a_thread_that_ends_fails_the_requests_of_all_and_stops_the_others(
    three_models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = engine_for(three_models, 3)
    await asyncio.gather(*(write(engine, name, 0, 3) for name in NAMES))
    step = LaneRunner.step

    def ends(runner: LaneRunner) -> None:
        if runner is runner_of(engine, "m1"):
            raise SystemExit("out of luck")
        step(runner)

    monkeypatch.setattr(LaneRunner, "step", ends)
    long = [asyncio.create_task(write(engine, name, 1, 350)) for name in ("m0", "m2")]
    counted = {name: engine.counters(name).forwards for name in ("m0", "m2")}
    await until(lambda: all(engine.counters(n).forwards > counted[n] for n in counted))
    work: list[Awaitable[Any]] = [*long, write_together(engine, NAMES, 1), write(engine, "m1", 0)]
    async with asyncio.timeout(60):
        found = await asyncio.gather(*work, return_exceptions=True)
        assert engine.failure is not None
        assert engine.failure.endswith("restart the process (SystemExit: out of luck)")
        assert [str(error) for error in found] == [engine.failure] * 4
        for name in NAMES:
            with pytest.raises(EngineError, match="has ended"):
                await write(engine, name, 0)
    await until(lambda: not any(thread_of(engine, n)._thread.is_alive() for n in NAMES))
    assert engine.reserved_bytes == 0
    assert [record.levelname for record in caplog.records if record.exc_info] == ["CRITICAL"]
    await engine.close()


async def test_closing_ends_all_threads_and_fails_what_runs(three_models: dict[str, str]) -> None:
    engine = engine_for(three_models, 3)
    await asyncio.gather(*(write(engine, name, 0, 3) for name in NAMES))
    work = [asyncio.create_task(write(engine, name, 1, 350)) for name in NAMES]
    work += [asyncio.create_task(write_together(engine, NAMES, seed, 350)) for seed in range(3)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        await engine.close()
        found = await asyncio.gather(*work, return_exceptions=True)
        assert {str(error) for error in found} == {
            "the engine was closed while an answer was being written"
        }
        with pytest.raises(EngineError, match="the engine is closed"):
            await write(engine, "m0", 0)
        await engine.close()
    assert not any(thread_of(engine, name)._thread.is_alive() for name in NAMES)


async def test_closing_beside_new_requests_leaves_nobody_waiting(
    three_models: dict[str, str],
) -> None:
    """Requests arrive from other event loops at the very moment."""
    for attempt in range(5):
        engine = engine_for(three_models, 2)
        await asyncio.gather(*(write(engine, name, 0, 2) for name in NAMES))
        callers = [threading.Thread(target=_ask_until_closed, args=(engine,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        await asyncio.sleep(0.02 * attempt)
        await engine.close()
        for caller in callers:
            await asyncio.to_thread(caller.join, 60)
        assert not any(caller.is_alive() for caller in callers)


def _ask_until_closed(engine: LocalEngine) -> None:
    async def ask() -> None:
        for seed in range(10_000):
            await write_together(engine, NAMES, seed, 2)

    with pytest.raises(EngineError, match=r"the engine (is|was) closed"):
        asyncio.run(ask())


async def test_what_a_thread_passes_on_while_the_engine_closes_fails_too(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first model's thread is held until the other one has stopped; then it would start a text
    with both."""
    engine = engine_for(three_models, 3)
    await asyncio.gather(write(engine, "m0", 0, 3), write(engine, "m1", 0, 3))
    held, go = threading.Event(), threading.Event()
    runner = runner_of(engine, "m0")
    forward = runner.forward

    def wait(*args: Any) -> Any:
        held.set()
        assert go.wait(60)
        return forward(*args)

    monkeypatch.setattr(runner, "forward", wait)
    solo = asyncio.create_task(write(engine, "m0", 0))
    await until(held.is_set)
    text = asyncio.create_task(write_together(engine, ("m0", "m1"), 0))
    await until(lambda: thread_of(engine, "m0")._inbox.qsize() > 0)
    closing = asyncio.create_task(engine.close())
    await until(lambda: not thread_of(engine, "m1")._thread.is_alive())
    go.set()
    async with asyncio.timeout(60):
        await closing
        for task in (solo, text):
            with pytest.raises(EngineError, match="the engine was closed"):
                await task


# In any company


async def test_few_lanes_are_never_held_in_a_circle(three_models: dict[str, str]) -> None:
    """Fault: each of two texts holds the only lane of a model that the other one waits for. They
    come from several event loops and name the models in different orders."""
    engine = engine_for(three_models, 3, max_batch=1, deterministic=True)
    orders = [("m0", "m1", "m2"), ("m2", "m1", "m0"), ("m1", "m0"), ("m2", "m0"), ("m0", "m2")]
    expected = [(await write_together(engine, order, 7, 6)).token_ids for order in orders]

    async def several() -> list[Any]:
        work = [write_together(engine, order, 7, 6) for order in orders * 2]
        async with asyncio.timeout(60):
            return [completion.token_ids for completion in await asyncio.gather(*work)]

    found: list[list[Any]] = []
    callers = [
        threading.Thread(target=lambda: found.append(asyncio.run(several())), daemon=True)
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        await asyncio.to_thread(caller.join, 60)
    assert found == [expected * 2] * 3
    assert idle(engine)
    await engine.close()


async def test_whoever_leaves_the_others_are_answered(three_models: dict[str, str]) -> None:
    """Random requests to three threads, some cancelled at a random moment: the others get what
    they get alone, and nothing is held at the end."""
    alone = engine_for(three_models, 1, deterministic=True)

    def request(engine: LocalEngine, seed: int) -> Coroutine[Any, Any, Completion]:
        random = Random(seed)
        models = tuple(random.sample(NAMES, random.randint(1, 3)))
        tokens = random.randint(1, 25)
        if len(models) == 1:
            return write(engine, models[0], seed, tokens)
        return write_together(engine, models, seed, tokens)

    expected = [(await request(alone, seed)).token_ids for seed in range(16)]
    await alone.close()

    async def some(seeds: list[int], leaving: dict[int, float], max_batch: int) -> None:
        engine = engine_for(three_models, 3, deterministic=True, max_batch=max_batch)
        async with asyncio.timeout(60):
            tasks = {seed: asyncio.create_task(request(engine, seed)) for seed in seeds}
            for seed, moment in sorted(leaving.items(), key=lambda item: item[1]):
                await asyncio.sleep(moment / 10)
                if seed in tasks:
                    tasks[seed].cancel()
            found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for seed, completion in zip(tasks, found, strict=True):
            if isinstance(completion, asyncio.CancelledError):
                assert seed in leaving
            else:
                assert isinstance(completion, Completion)
                assert completion.token_ids == expected[seed]
        await until(lambda: idle(engine))
        await engine.close()

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.integers(0, 15), min_size=1, max_size=12, unique=True),
        st.dictionaries(st.integers(0, 15), st.floats(0, 0.3), max_size=6),
        st.integers(1, 8),
    )
    def holds(seeds: list[int], leaving: dict[int, float], max_batch: int) -> None:
        asyncio.run(some(seeds, leaving, max_batch))

    await asyncio.to_thread(holds)


async def test_combine_is_never_called_twice_at_a_time(three_models: dict[str, str]) -> None:
    """It is a caller's function, and may keep something between its calls."""
    engine = engine_for(three_models, 3)
    inside, most = [0], [0]

    def counted(logprobs: Tensor) -> Tensor:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        inside[0] -= 1
        return logprobs.mean(1)

    async def one(models: list[str], seed: int) -> None:
        async with engine.session(seed, 200) as session:
            await session.generate_together(models, [PROMPT] * 2, Sampling(10), counted)

    pairs = [["m0", "m1"], ["m1", "m2"], ["m2", "m0"]]
    await asyncio.gather(*(one(pair, seed) for seed in range(3) for pair in pairs))
    assert most == [1]
    await engine.close()
