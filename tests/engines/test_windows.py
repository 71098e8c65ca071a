"""Models whose layers look at a window, a chunk, or all before, side by side in lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    Llama4TextConfig,
    MistralConfig,
    Olmo3Config,
)

from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.masks import LayerSight, masks_of
from taketurns.engines.local.plain_forward import Unfit
from taketurns.types import ModelSpec, Sampling

WINDOW = 16
SIZES = (3, 90, 40, 17, 61)
MIXED = ["sliding_attention", "full_attention"]
KINDS: dict[str, dict[str, Any]] = {
    "mistral": {"config_class": MistralConfig, "sliding_window": WINDOW},
    "gemma": {
        "config_class": Gemma3TextConfig,
        "sliding_window": WINDOW,
        "layer_types": MIXED,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
    },
    "olmo": {"config_class": Olmo3Config, "sliding_window": WINDOW, "layer_types": MIXED},
    "olmo, all alike": {
        "config_class": Olmo3Config,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention"] * 2,
    },
    "chunks": {
        "config_class": Llama4TextConfig,
        "attention_chunk_size": WINDOW,
        "layer_types": ["chunked_attention", "full_attention"],
        "head_dim": 16,
        "num_local_experts": 1,
        "intermediate_size_mlp": 128,
        "moe_layers": [],
    },
    "sinks": {
        "config_class": GptOssConfig,
        "sliding_window": WINDOW,
        "layer_types": MIXED,
        "head_dim": 16,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
}


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        *((kind, None) for kind in KINDS),
        *(  # those of most are looked at side by side, below
            pytest.param(kind, False, marks=() if kind == "olmo" else pytest.mark.slow)
            for kind in KINDS
        ),
    ],
)
async def test_lanes_say_what_a_plain_forward_says(
    make_model: Callable[..., Path], kind: str, exact: bool | None
) -> None:
    """Past the window, after other tokens were appended, after a rewind, and from a fork."""
    path = make_model(3, **KINDS[kind])
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    random = Random(0)

    def logits(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            whole: torch.Tensor = model(torch.tensor([ids])).logits[0]
        return whole

    def truth(ids: list[int]) -> torch.Tensor:
        return torch.log_softmax(logits(ids)[-1].float(), -1)

    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=exact)
    async with engine.session(1, 400) as session:
        assert engine.running("m").keeps_cache
        ids = [random.randrange(40, 90) for _ in range(5)]
        for others in (0, 1, 40, 3, -30, 160, 2, -60, 90, 2):
            ids = ids[:others] if others < 0 else ids
            ids += [random.randrange(40, 90) for _ in range(max(0, others))]
            before = engine.counters("m").encoded_tokens
            written = await session.generate("m", ids, Sampling(7, temperature=0))
            assert engine.counters("m").encoded_tokens - before <= max(others, 5) + 1
            start, ids = len(ids), [*ids, *written.token_ids]
            assert written.token_ids == tuple(logits(ids)[start - 1 : -1].argmax(-1).tolist())
            seen = await session.next_logprobs("m", ids)
            torch.testing.assert_close(seen, truth(ids), atol=1e-4, rtol=1e-4)
        async with session.fork(2) as fork:
            forked = [*ids, 50, 51]
            seen = await fork.next_logprobs("m", forked)
            torch.testing.assert_close(seen, truth(forked), atol=1e-4, rtol=1e-4)
    await engine.close()


@pytest.mark.parametrize("kind", ["mistral", "gemma", "chunks"])
async def test_answers_of_unlike_lengths_read_their_own_windows(
    make_model: Callable[..., Path], kind: str
) -> None:
    """Side by side, in fast rounds, which leave out what lies before all windows."""
    path = make_model(3, **KINDS[kind])
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    engine = LocalEngine({"m": ModelSpec(str(path))}, deterministic=False)
    prompts = [[40 + (start + i) % 50 for i in range(size)] for start, size in enumerate(SIZES)]

    async def answer(prompt: list[int]) -> tuple[int, ...]:
        async with engine.session(1, 200) as session:
            return (await session.generate("m", prompt, Sampling(12, temperature=0))).token_ids

    written = await asyncio.gather(*map(answer, prompts))
    await engine.close()
    for prompt, tokens in zip(prompts, written, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *tokens]])).logits[0]
        assert tokens == tuple(logits[len(prompt) - 1 : -1].argmax(-1).tolist())


async def test_a_window_longer_than_the_context_is_as_good_as_none(
    make_model: Callable[..., Path],
) -> None:
    path = make_model(
        3, config_class=MistralConfig, sliding_window=4096, max_position_embeddings=64
    )
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    engine = LocalEngine({"m": ModelSpec(str(path))})
    async with engine.session(1) as session:
        assert engine.running("m").keeps_cache
        ids = [40 + i % 50 for i in range(50)]
        written = await session.generate("m", ids, Sampling(12, temperature=0))
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, *written.token_ids]])).logits[0]
        assert written.token_ids == tuple(logits[len(ids) - 1 : -1].argmax(-1).tolist())
    await engine.close()


async def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(
    make_model: Callable[..., Path],
) -> None:
    """Bitwise, over random batch compositions of three models with windows."""
    kinds = ("mistral", "gemma", "olmo")
    specs = {kind: ModelSpec(str(make_model(1, **KINDS[kind]))) for kind in kinds}

    async def answer(engine: LocalEngine, seed: int) -> list[Any]:
        random = Random(seed)
        size = random.randint(1, 40) + random.choice([0, 170])  # some longer than a ring
        ids = [random.randrange(3, 90) for _ in range(size)]
        log: list[Any] = []
        async with engine.session(seed, 300) as session:
            for _ in range(4):
                model = random.choice(kinds)
                log.append(tuple(await session.score(model, ids, [5, 6, 7])))
                sampling = Sampling(random.randint(1, 12), temperature=random.choice([0.0, 1.2]))
                written = await session.generate(model, ids, sampling)
                ids += written.token_ids
                log.append(written.token_ids)
        return log

    engine = LocalEngine(specs, deterministic=True)
    alone = {seed: await answer(engine, seed) for seed in range(9)}
    await engine.close()

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True), st.integers(1, 20))
    def holds(seeds: list[int], max_batch: int) -> None:
        async def together() -> list[list[Any]]:
            crowd = LocalEngine(specs, deterministic=True, max_batch=max_batch)
            answers = await asyncio.gather(*(answer(crowd, seed) for seed in seeds))
            await crowd.close()
            return list(answers)

        assert asyncio.run(together()) == [alone[seed] for seed in seeds]

    await asyncio.to_thread(holds)


def test_what_a_token_sees() -> None:
    keys, at = torch.arange(8), torch.tensor([[[5]]])

    def seen(sight: LayerSight) -> list[int]:
        return torch.nonzero(~sight.hides(keys, at)[0, 0]).squeeze(1).tolist()

    assert seen(LayerSight("full_attention")) == [0, 1, 2, 3, 4, 5]
    assert seen(LayerSight("sliding_attention", 3)) == [3, 4, 5]
    assert seen(LayerSight("sliding_attention", 100)) == [0, 1, 2, 3, 4, 5]
    assert seen(LayerSight("chunked_attention", 4)) == [4, 5]


def test_windows_of_several_sizes_are_no_mask_that_a_model_takes() -> None:
    with pytest.raises(Unfit, match="windows of several sizes"):
        masks_of([LayerSight("sliding_attention", 4), LayerSight("sliding_attention", 8)])
