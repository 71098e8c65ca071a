"""Prompts that begin alike are encoded once, and no answer is another one because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, Qwen3_5TextConfig

from taketurns.engines.local.batch_invariant import BLOCK
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.shared_beginnings import common_blocks
from taketurns.types import Completion, ModelSpec, Sampling

HEAD = [Random(1).randrange(40, 90) for _ in range(4 * BLOCK)]


def question(number: int, length: int) -> list[int]:
    random = Random(number)
    return [random.randrange(40, 90) for _ in range(length)]


async def ask(engine: LocalEngine, prompt: list[int], seed: int, model: str = "m") -> Completion:
    async with engine.session(seed, 300) as session:
        return await session.generate(model, prompt, Sampling(6, temperature=1.0))


@pytest.mark.parametrize(
    ("prompt", "other", "tokens"),
    [
        (HEAD, HEAD, 3 * BLOCK),  # the last block is left, or one of its tokens would be alone
        ([*HEAD, 5], HEAD, 3 * BLOCK),
        ([*HEAD, 5, 6], HEAD, 4 * BLOCK),
        ([*HEAD, 5, 6], [*HEAD[:-1], 5], 3 * BLOCK),
        ([*HEAD, 5, 6], tuple(HEAD[:40]), BLOCK),
        ([*HEAD, 5, 6], [5, *HEAD], 0),
        (HEAD[: BLOCK + 1], HEAD, 0),
        ([5], [5], 0),
    ],
)
def test_whole_blocks_are_taken_over(prompt: list[int], other: list[int], tokens: int) -> None:
    assert common_blocks(prompt, other) == tokens


async def test_one_question_under_several_seeds_is_read_once(three_models: dict[str, str]) -> None:
    """Fault: each answer encoded the whole question, also those that began at the same time."""
    prompt = [*HEAD, *question(2, 10)]
    engine = LocalEngine({"m": ModelSpec(three_models["m0"])})
    alone = [await ask(engine, prompt, seed) for seed in range(4)]
    before = engine.counters("m").encoded_tokens
    together = await asyncio.gather(*(ask(engine, prompt, seed) for seed in range(4)))
    encoded = engine.counters("m").encoded_tokens - before
    await engine.close()
    assert encoded == len(prompt) + 3 * 10
    # Also what is counted: an answer's own cost does not depend on who else was there.
    assert together == alone
    assert {answer.cached_tokens for answer in together} == {0}


async def test_a_question_that_comes_later_begins_with_what_is_there(
    three_models: dict[str, str],
) -> None:
    prompts = [[*HEAD, *question(number, 20)] for number in range(3)]
    engine = LocalEngine({"m": ModelSpec(three_models["m0"])})
    alone = [await ask(engine, prompt, 7) for prompt in prompts]
    before = engine.counters("m").encoded_tokens
    async with engine.session(1, 300) as session:
        await session.read("m", prompts[0])  # encoded, and resting
        together = [await ask(engine, prompt, 7) for prompt in prompts]
    assert engine.counters("m").encoded_tokens - before == len(prompts[0]) + 3 * 20
    assert together == alone
    after = engine.counters("m").encoded_tokens  # nobody is left
    await ask(engine, prompts[0], 7)
    assert engine.counters("m").encoded_tokens - after == len(prompts[0])
    await engine.close()


async def test_models_of_one_base_do_not_read_each_other(
    three_models: dict[str, str], tmp_path: Path
) -> None:
    """An adapter's rows are in the lanes of its base, and its keys are others."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from taketurns.engines.local.library_logging import asked_by_an_old_name

    torch.manual_seed(0)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "k_proj"])
    with asked_by_an_old_name():
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(three_models["m0"]), config)
    tuned.save_pretrained(tmp_path / "adapter")
    specs = {
        "m": ModelSpec(three_models["m0"]),
        "tuned": ModelSpec(three_models["m0"], adapter=str(tmp_path / "adapter")),
    }
    engine = LocalEngine(specs)

    async def score(name: str) -> list[float]:
        async with engine.session(1, 300) as session:
            return await session.score(name, HEAD, [5, 6, 7])

    alone = [await score(name) for name in specs]
    assert await asyncio.gather(*map(score, specs)) == alone
    assert alone[0] != alone[1]
    await engine.close()


KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "window": {"config_class": MistralConfig, "sliding_window": 16},
    "states": {
        "config_class": Qwen3_5TextConfig,
        "layer_types": ["linear_attention", "full_attention"],
        "head_dim": 16,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
    },
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k == "states" else ()) for k in KINDS]
)
async def test_answers_that_begin_alike_are_those_that_each_gives_alone(
    make_model: Callable[..., Path], kind: str
) -> None:
    """Bitwise, over random beginnings, tails, turns and batch limits; also where a window has
    passed the common beginning, and where states cannot be shared."""
    specs = {"m": ModelSpec(str(make_model(4, **KINDS[kind])))}

    async def answer(engine: LocalEngine, asked: tuple[int, int, int]) -> list[Any]:
        head, tail, seed = asked
        ids = [*HEAD[:head], *question(seed % 2, tail)]
        log: list[Any] = []
        async with engine.session(seed, 300) as session:
            for turn in range(2):
                log.append(await session.generate("m", ids, Sampling(5, temperature=1.0)))
                ids += [*log[-1].token_ids, *question(turn, 3)]
            log.append(await session.score("m", ids, [5, 6, 7]))
        return log

    lengths = st.sampled_from([0, 1, 31, 32, 33, 63, 64, 65, 100, 128])
    asking = st.tuples(lengths, st.sampled_from([1, 2, 30, 33]), st.integers(0, 3))

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(asking, min_size=2, max_size=8), st.sampled_from([2, 5, 64]))
    def holds(asked: list[tuple[int, int, int]], max_batch: int) -> None:
        async def run() -> None:
            engine = LocalEngine(specs, deterministic=True, max_batch=max_batch)
            alone = [await answer(engine, one) for one in asked]
            together = await asyncio.gather(*(answer(engine, one) for one in asked))
            await engine.close()
            assert together == alone

        asyncio.run(run())

    await asyncio.to_thread(holds)
