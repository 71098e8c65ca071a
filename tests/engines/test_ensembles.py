"""Several models write one text: the right distribution, in any company, and no lane left over."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BloomConfig

from taketurns.engines.local.engine import LocalEngine
from taketurns.errors import ConfigError, EngineError, PromptError
from taketurns.types import Completion, ModelSpec, Sampling

PROMPTS = [tuple(range(40, 60)), tuple(range(41, 50)), tuple(range(30, 70))]
NAMES = ["m0", "m1", "m2"]


def average(logprobs: Tensor) -> Tensor:
    return logprobs.mean(1)


def broken(logprobs: Tensor) -> Tensor:
    raise ValueError("cannot combine")


def engine_for(models: dict[str, str], **options: Any) -> LocalEngine:
    return LocalEngine({name: ModelSpec(path) for name, path in models.items()}, **options)


async def write(engine: LocalEngine, seed: int, tokens: int, temperature: float) -> Completion:
    async with engine.session(seed, 200) as session:
        sampling = Sampling(tokens, temperature)
        return await session.generate_together(NAMES, PROMPTS, sampling, average)


async def test_greedy_joint_writing_follows_the_combined_distribution(
    three_models: dict[str, str],
) -> None:
    """Token by token as transformers' own forwards say, each model after its own prompt."""
    models = [AutoModelForCausalLM.from_pretrained(three_models[name]) for name in NAMES]
    engine = engine_for(three_models)
    end = next(iter((await engine.info("m0")).end_token_ids))
    ordinary = (await engine.shared(NAMES)).ordinary
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < 12:
            logits = [
                model(torch.tensor([[*prompt, *written]])).logits[0, -1]
                for model, prompt in zip(models, PROMPTS, strict=True)
            ]
            mean = torch.stack([one.log_softmax(-1) for one in logits]).mean(0)
            token = int(torch.cat((ordinary, torch.tensor([end])))[mean[[*ordinary, end]].argmax()])
            if token == end:
                break
            written.append(token)
    found = await write(engine, 0, 12, 0.0)
    await engine.close()
    assert list(found.token_ids) == written


async def test_joint_writing_does_not_depend_on_the_company(three_models: dict[str, str]) -> None:
    """Bitwise the same alone, together, and beside models that write alone."""
    engine = engine_for(three_models, deterministic=True, max_batch=5)
    alone = [await write(engine, seed, 9 + seed, 1.0) for seed in range(12)]

    async def solo(seed: int) -> Completion:
        async with engine.session(seed, 200) as session:
            return await session.generate(f"m{seed % 3}", PROMPTS[2], Sampling(15))

    before = [await solo(seed) for seed in range(6)]
    both = await asyncio.gather(
        *(write(engine, seed, 9 + seed, 1.0) for seed in range(12)), *map(solo, range(6))
    )
    await engine.close()
    assert [c.token_ids for c in both] == [c.token_ids for c in (*alone, *before)]


async def test_what_was_written_together_is_kept(three_models: dict[str, str]) -> None:
    engine = engine_for(three_models, deterministic=True)
    async with engine.session(3, 200) as session:
        found = await session.generate_together(NAMES, PROMPTS, Sampling(8), average)
        longer = [*PROMPTS[1], *found.token_ids]
        read = engine.counters("m1").encoded_tokens
        kept = await session.next_logprobs("m1", longer)
        assert engine.counters("m1").encoded_tokens == read + 1
    async with engine.session(4, 200) as session:
        fresh = await session.next_logprobs("m1", longer)
    torch.testing.assert_close(kept, fresh, atol=1e-4, rtol=1e-4)
    await engine.close()


async def test_what_was_written_together_is_freed_with_its_session(
    three_models: dict[str, str],
) -> None:
    """Fault: an answer and its parts held each other, so their lanes were in use until Python's
    garbage collector came."""
    engine = engine_for(three_models)
    gc.disable()
    try:
        await write(engine, 3, 8, 1.0)
        async with engine.session(4, 200) as session:
            await session.score("m1", [5], [6])
            pool: Any = engine._threads._threads["m1"].runners["m1"]._pool  # type: ignore[attr-defined]
            assert [lane is not None for lane in pool._lanes].count(True) == 1
    finally:
        gc.enable()
    await engine.close()


async def test_the_end_is_what_all_end_tokens_say(
    make_model: Callable[..., Path], byte_tokenizer: Any
) -> None:
    """A model that is sure of its end outweighs one that would go on."""
    folders = {}
    for name, lift in (("goes-on", -30.0), ("ends", 60.0)):
        folder = make_model(1, attention_bias=False, tie_word_embeddings=False)
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            # The logit of the end is `lift` times a state's length, whatever is written.
            model.lm_head.weight[byte_tokenizer.eos_token_id] = 0
            model.model.norm.weight.fill_(1.0)
        ends = torch.nn.Linear(64, model.config.vocab_size, bias=True)
        with torch.no_grad():
            ends.weight.copy_(model.lm_head.weight)
            ends.bias.zero_()
            ends.bias[byte_tokenizer.eos_token_id] = lift
        folders[name] = (folder, model, ends)
    engine = engine_for({name: str(folder) for name, (folder, *_) in folders.items()})
    for name, (_, _, head) in folders.items():
        await engine.load(name)
        engine._threads._threads[name]._runners[name].forward._model.lm_head = head  # type: ignore[union-attr]
    async with engine.session(0, 200) as session:
        prompts = [PROMPTS[0]] * 2
        found = await session.generate_together(list(folders), prompts, Sampling(8), average)
        assert (found.token_ids, found.finish) == ((), "stop")
        alone = await session.generate("goes-on", PROMPTS[0], Sampling(8))
        assert len(alone.token_ids) == 8
    await engine.close()


async def test_leaving_frees_every_lane(three_models: dict[str, str]) -> None:
    engine = engine_for(three_models)
    task = asyncio.create_task(write(engine, 1, 150, 0.7))
    while not engine.counters("m2").forwards:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await write(engine, 1, 5, 0.7)).token_ids) <= 5
    assert engine.reserved_bytes == 0
    assert not any(r.busy for thread in engine._threads._distinct for r in thread.runners.values())
    await engine.close()


async def test_one_model_that_fails_fails_the_text_and_nothing_else(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(three_models)
    await write(engine, 1, 3, 0.7)
    runner: Any = engine._threads._threads["m1"]._runners["m1"]
    whole = runner.forward
    monkeypatch.setattr(runner, "forward", lambda *args: (_ for _ in ()).throw(RuntimeError("x")))
    with pytest.raises(EngineError, match="RuntimeError: x"):
        await write(engine, 1, 5, 0.7)
    monkeypatch.setattr(runner, "forward", whole)
    assert (await write(engine, 1, 5, 0.7)).token_ids
    async with engine.session(0, 200) as session:
        with pytest.raises(EngineError, match="cannot combine"):
            await session.generate_together(NAMES, PROMPTS, Sampling(3), broken)
    assert (await write(engine, 1, 5, 0.7)).token_ids
    await engine.close()


async def test_models_that_cannot_write_together_are_refused(
    three_models: dict[str, str], make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    others = {
        "m0": three_models["m0"],
        "foreign": str(make_model(0, other_tokenizer)),
        "bloom": str(make_model(2, config_class=BloomConfig, n_layer=2, n_head=4)),
    }
    engine = engine_for(others)
    async with engine.session(0, 200) as session:
        for name, kind, why in (
            ("foreign", ConfigError, "m0, foreign cannot write a token together"),
            ("bloom", EngineError, "bloom cannot write tokens together with other models"),
        ):
            with pytest.raises(kind, match=why):
                await session.generate_together(["m0", name], PROMPTS[:2], Sampling(3), average)
        with pytest.raises(PromptError, match="does not fit the context"):
            await session.generate_together(["m0"], [range(3, 250)] * 1, Sampling(500), average)
    await engine.close()


async def test_a_model_that_is_named_more_often_than_it_has_lanes_is_refused(
    three_models: dict[str, str],
) -> None:
    """Its parts would wait for each other for ever."""
    engine = engine_for(three_models, max_batch=1)
    async with engine.session(0, 200) as session:
        with pytest.raises(ConfigError, match="m0 cannot have 2 parts in one answer"):
            await session.generate_together(["m0", "m0"], PROMPTS[:2], Sampling(3), average)
    await engine.close()
