"""The embedded engine: right, incremental, reproducible, bounded, and kind to those who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask

from taketurns.checkpoints.text import TextCodec
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.engines.local.scheduler import LaneRunner
from taketurns.errors import CapacityError, ConfigError, EngineError, PromptError
from taketurns.types import ModelSpec, NextToken, Sampling, Token

PROMPT = tuple(range(40, 90))


def engine_for(models: dict[str, str], **options: Any) -> LocalEngine:
    return LocalEngine({name: ModelSpec(path) for name, path in models.items()}, **options)


@pytest.mark.parametrize("deterministic", [True, False])
async def test_kept_caches_say_what_a_fresh_encoding_says(
    three_models: dict[str, str], deterministic: bool
) -> None:
    """Whoever comes back after others wrote sees the whole answer, exactly as if encoded anew."""
    engine = engine_for(three_models, deterministic=deterministic)
    plain = {n: AutoModelForCausalLM.from_pretrained(p) for n, p in three_models.items()}
    async with engine.session(7, 300) as session:
        ids = list(PROMPT)
        for turn in range(9):
            writer, reader = f"m{turn % 3}", f"m{(turn + 1) % 3}"
            ids += (await session.generate(writer, ids, Sampling(turn + 1))).token_ids
            with torch.inference_mode():
                truth = plain[reader](torch.tensor([ids]), output_hidden_states=True)
            logprobs = await session.next_logprobs(reader, ids)
            torch.testing.assert_close(
                logprobs, torch.log_softmax(truth.logits[0, -1], -1), atol=1e-4, rtol=1e-4
            )
            scores = await session.score(reader, ids, [3, 5])
            assert scores == pytest.approx([float(logprobs[3]), float(logprobs[5])], abs=1e-4)
            hidden = await session.hidden(reader, ids, (0, -1))
            for ours, layer in zip(hidden, (0, -1), strict=True):
                torch.testing.assert_close(
                    ours, truth.hidden_states[layer][0, -1], atol=1e-4, rtol=1e-4
                )
    await engine.close()


async def test_greedy_writing_equals_transformers_generate(three_models: dict[str, str]) -> None:
    engine = engine_for(three_models)
    model = AutoModelForCausalLM.from_pretrained(three_models["m0"])
    truth = model.generate(torch.tensor([PROMPT]), max_new_tokens=30, do_sample=False)
    async with engine.session(0, 200) as session:
        written = await session.generate("m0", PROMPT, Sampling(30, temperature=0))
    assert list(written.token_ids) == truth[0, len(PROMPT) :].tolist()
    await engine.close()


async def test_a_turn_encodes_only_what_is_new(three_models: dict[str, str]) -> None:
    """Fault: the whole context encoded anew at every patch by every speaker."""
    engine = engine_for(three_models)
    async with engine.session(1, 300) as session:
        ids = list(PROMPT)
        ids += (await session.generate("m0", ids, Sampling(10))).token_ids
        ids += (await session.generate("m1", ids, Sampling(12))).token_ids
        before = engine.counters("m0").encoded_tokens
        assert before == len(PROMPT)
        completion = await session.generate("m0", ids, Sampling(5))
        # Its own last token was sampled but never read; then come the 12 of the other.
        assert engine.counters("m0").encoded_tokens - before == 13
        assert completion.cached_tokens == len(PROMPT) + 9
    await engine.close()


async def test_a_rewritten_past_is_read_again_from_where_it_changed(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models, deterministic=True)
    changed = [*PROMPT[:20], 9, *PROMPT[21:]]
    async with engine.session(1, 300) as session:
        await session.score("m0", PROMPT, [1])
        kept = await session.next_logprobs("m0", changed)
    assert engine.counters("m0").encoded_tokens == len(PROMPT) + 30
    async with engine.session(1, 300) as session:
        torch.testing.assert_close(kept, await session.next_logprobs("m0", changed))
    await engine.close()


async def test_a_models_files_are_read_once_however_many_ask_at_a_time(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: each of the questions asked side by side read all tokenizers, minutes for large
    ones."""
    read: list[str] = []
    load = TextCodec.load

    def counted(spec: ModelSpec) -> TextCodec:
        read.append(spec.model)
        return load(spec)

    monkeypatch.setattr(TextCodec, "load", counted)
    engine = engine_for(three_models)
    infos = await asyncio.gather(*(engine.info(name) for name in [*three_models] * 6))
    assert sorted(read) == sorted(three_models.values())
    assert len(set(map(id, infos))) == 3
    await engine.close()


async def test_what_is_asked_at_once_is_encoded_once(three_models: dict[str, str]) -> None:
    """Fault: two questions about one text each park it, so that it stands there twice."""
    engine = engine_for(three_models)
    twice = [*PROMPT, *PROMPT, PROMPT[0]]
    async with engine.session(1, 300) as session:
        await session.score("m0", PROMPT[:-5], [1])
        await asyncio.gather(
            session.read("m0", PROMPT),
            session.hidden("m0", PROMPT, (-1,)),
            session.score("m0", PROMPT, [1]),
        )
        # The last token is looked at anew each time, the others are there.
        assert engine.counters("m0").encoded_tokens == len(PROMPT) + 2
        repeated = await session.score("m0", twice, [1, 2, 3])
    async with engine.session(1, 300) as session:
        assert repeated == pytest.approx(await session.score("m0", twice, [1, 2, 3]), abs=1e-4)
    await engine.close()


async def _answer(engine: LocalEngine, seed: int) -> list[Any]:
    """An answer of several turns, scores and a fork, all of whose draws depend on the seed
    alone."""
    random = Random(seed)
    ids = [random.randrange(3, 90) for _ in range(random.randint(1, 70))]
    log: list[Any] = []
    async with engine.session(seed, 400) as session:
        for _ in range(4):
            model = f"m{random.randrange(3)}"
            if random.random() < 0.5:
                log.append(tuple(await session.score(model, ids, [5, 6, 7])))
            sampling = Sampling(random.randint(1, 12), temperature=random.choice([0.0, 0.7, 1.2]))
            completion = await session.generate(model, ids, sampling)
            ids += completion.token_ids
            log.append(completion.token_ids)
        async with session.fork(seed + 1) as fork:
            log.append((await fork.generate("m2", ids, Sampling(6))).token_ids)
    return log


async def test_answers_do_not_depend_on_what_else_is_in_the_batch(
    three_models: dict[str, str],
) -> None:
    """Bitwise: tokens and scores, over random batch compositions."""
    engine = engine_for(three_models, deterministic=True)
    alone = {seed: await _answer(engine, seed) for seed in range(12)}
    await engine.close()

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True), st.integers(1, 20))
    def holds(seeds: list[int], max_batch: int) -> None:
        async def together() -> list[list[Any]]:
            crowd = engine_for(three_models, deterministic=True, max_batch=max_batch)
            answers = await asyncio.gather(*(_answer(crowd, seed) for seed in seeds))
            await crowd.close()
            return list(answers)

        assert asyncio.run(together()) == [alone[seed] for seed in seeds]

    await asyncio.to_thread(holds)


async def test_a_fork_shares_the_past_and_leaves_its_parent_alone(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models, deterministic=True)
    async with engine.session(1, 300) as session:
        ids = [*PROMPT, *(await session.generate("m0", PROMPT, Sampling(10))).token_ids]
        before = engine.counters("m0").encoded_tokens
        async with AsyncExitStack() as stack:
            forks = [await stack.enter_async_context(session.fork(seed)) for seed in (5, 5, 6)]
            drawn = await asyncio.gather(*(f.generate("m0", ids, Sampling(20)) for f in forks))
        # Each reads one token: the one that had been sampled but not read.
        assert engine.counters("m0").encoded_tokens - before == 3
        assert drawn[0].token_ids == drawn[1].token_ids != drawn[2].token_ids
        after = await session.generate("m0", ids, Sampling(20))
    async with engine.session(1, 300) as session:
        await session.generate("m0", PROMPT, Sampling(10))
        assert (await session.generate("m0", ids, Sampling(20))).token_ids == after.token_ids
    await engine.close()


async def test_leaving_in_the_middle_frees_the_answer_and_spares_the_others(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models, deterministic=True)

    async def long_answer(started: asyncio.Event) -> None:
        async with engine.session(1, 500) as session:
            await session.generate("m0", PROMPT, Sampling(400), lambda _: started.set())

    async def short_answer() -> tuple[int, ...]:
        async with engine.session(2, 300) as session:
            return (await session.generate("m0", PROMPT, Sampling(60))).token_ids

    truth = await short_answer()
    started = asyncio.Event()
    leaver = asyncio.create_task(long_answer(started))
    stayer = asyncio.create_task(short_answer())
    await started.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert await stayer == truth
    assert engine.reserved_bytes == 0
    assert engine.counters("m0").written_tokens < 400
    await engine.close()


async def test_memory_is_bounded_by_making_answers_wait(three_models: dict[str, str]) -> None:
    engine = engine_for(three_models)
    async with engine.session(1, 100):
        need = engine.reserved_bytes
    await engine.close()

    tight = engine_for(three_models, memory_bytes=2 * need)
    third = asyncio.Event()

    async def wait_for_room() -> None:
        async with tight.session(3, 100):
            third.set()

    async with tight.session(1, 100):
        async with tight.session(2, 100):
            waiting = asyncio.create_task(wait_for_room())
            await asyncio.sleep(0.05)
            assert not third.is_set()
        await asyncio.wait_for(third.wait(), 5)
    await waiting
    with pytest.raises(CapacityError, match="lower max_tokens"):
        async with tight.session(4, 300):
            pass
    assert tight.reserved_bytes == 0
    await tight.close()


async def test_a_stop_string_ends_the_patch_even_across_its_beginning(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models)
    codec = (await engine.info("m0")).codec
    greedy = Sampling(20, temperature=0)
    async with engine.session(1, 200) as session:
        whole = await session.generate("m0", PROMPT, greedy)
        text = codec.decode(whole.token_ids)
        stop = text[5:8]
        cut = await session.generate("m0", PROMPT, Sampling(20, temperature=0, stop=(stop,)))
        assert cut.finish == "stop"
        assert stop in codec.decode(cut.token_ids)
        assert stop not in codec.decode(cut.token_ids[:-1])
        across = Sampling(20, temperature=0, stop=("x" + text[:2],), written="x")
        assert len((await session.generate("m0", PROMPT, across)).token_ids) <= 2
    await engine.close()


@pytest.mark.parametrize("deterministic", [True, False])
async def test_log_probabilities_are_those_of_the_whole_softmax(
    three_models: dict[str, str], deterministic: bool
) -> None:
    """Before temperature and top-p; asking for them changes no token."""
    engine = engine_for(three_models, deterministic=deterministic)
    model = AutoModelForCausalLM.from_pretrained(three_models["m1"])
    told: list[Token] = []
    async with engine.session(3, 200) as session:
        weighed = await session.generate("m1", PROMPT, Sampling(12, logprobs=4), told.append)
    async with engine.session(3, 200) as session:
        plain = await session.generate("m1", PROMPT, Sampling(12))
    assert weighed.token_ids == plain.token_ids == tuple(token.id for token in told)
    assert plain.logprobs is None
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPT, *plain.token_ids]])).logits[0, len(PROMPT) - 1 : -1]
    truth = torch.log_softmax(logits, -1)
    assert weighed.logprobs == tuple(token.logprob for token in told)
    for row, token in zip(truth, told, strict=True):
        values, ids = row.topk(4)
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-4)
        assert [i for i, _ in token.top] == ids.tolist()
        assert [p for _, p in token.top] == pytest.approx(values.tolist(), abs=1e-4)
    await engine.close()


async def test_an_end_token_ends_the_patch_and_is_not_part_of_it(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models)
    async with engine.session(1, 200) as session:
        whole = await session.generate("m0", PROMPT, Sampling(20, temperature=0))
        end = whole.token_ids[4]
        first = whole.token_ids.index(end)
        ended = Sampling(20, temperature=0, stop_token_ids=(end,))
        completion = await session.generate("m0", PROMPT, ended)
    assert whole.finish == "length"
    assert completion.finish == "stop"
    assert completion.token_ids == whole.token_ids[:first]
    await engine.close()


async def test_an_old_checkpoint_lists_its_end_tokens_in_its_config(
    make_model: Callable[..., Path],
) -> None:
    path = make_model(1)
    (path / "generation_config.json").unlink()
    config = json.loads((path / "config.json").read_text())
    ends = [config["eos_token_id"], 65]
    (path / "config.json").write_text(json.dumps(config | {"eos_token_id": ends}))
    engine = engine_for({"m": str(path)})
    plain = AutoModelForCausalLM.from_pretrained(path)
    assert plain.generation_config.eos_token_id == ends
    assert (await engine.info("m")).end_token_ids == frozenset(ends)
    await engine.close()


async def test_failures_reach_those_who_asked_and_nobody_else(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models)
    with pytest.raises(ConfigError, match="there is no model 'm9'; the models are m0, m1, m2"):
        await engine.info("m9")
    async with engine.session(1, 200) as session:
        with pytest.raises(PromptError, match="does not fit the context of m0, 512 tokens"):
            await session.generate("m0", PROMPT, Sampling(500))
        with pytest.raises(PromptError, match="empty prompt"):
            await session.score("m0", [], [1])
        with pytest.raises(EngineError):
            await session.generate("m0", [10**6], Sampling(5))
        assert (await session.generate("m0", PROMPT, Sampling(5))).token_ids
    await engine.close()
    with pytest.raises(EngineError, match="closed"):
        async with engine.session(1, 200) as session:
            await session.generate("m0", PROMPT, Sampling(5))


async def test_an_id_that_a_model_does_not_know_fails_nobody_else(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models)
    size = AutoConfig.from_pretrained(three_models["m0"]).vocab_size

    async def answer(prompt: Sequence[int], choice: int = 0) -> int:
        async with engine.session(1, 200) as session:
            await session.score("m0", prompt, [choice])
            return len((await session.generate("m0", prompt, Sampling(20))).token_ids)

    asked = ((PROMPT, 0), ([5, size], 0), (PROMPT, size), ([-1], 0), ([5, size - 1], size - 1))
    found = await asyncio.gather(*(answer(*these) for these in asked), return_exceptions=True)
    assert [type(one) for one in found] == [int, EngineError, EngineError, EngineError, int]
    assert f"the token {size}, and it knows 0 to {size - 1}" in str(found[1])
    await engine.close()


async def test_a_model_writes_only_what_the_others_can_read(
    make_model: Callable[..., Path],
) -> None:
    """Padded vocabularies: checkpoints of one tokenizer whose embeddings differ in size."""
    small = make_model(1)
    size = AutoConfig.from_pretrained(small).vocab_size
    paths = {"large": str(make_model(0, vocab_size=size + 200)), "small": str(small)}

    async def answer(engine: LocalEngine, seed: int) -> list[int]:
        ids = list(PROMPT[:10])
        async with engine.session(seed, 200) as session:
            for turn in range(6):
                name = ("large", "small")[turn % 2] if len(paths) == 2 else "large"
                ids += (await session.generate(name, ids, Sampling(5, temperature=2))).token_ids
        return ids

    engine = engine_for(paths)
    answers = await asyncio.gather(*(answer(engine, seed) for seed in range(8)))
    assert max(map(max, answers)) < size
    await engine.close()
    del paths["small"]  # by itself it writes as it likes
    engine = engine_for(paths)
    answers = await asyncio.gather(*(answer(engine, seed) for seed in range(8)))
    assert max(map(max, answers)) >= size
    await engine.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose weights are read, in order, by anybody."""
    seen: list[str] = []
    load = AutoModelForCausalLM.from_pretrained

    def counted(path: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(str(path))
        return load(path, *arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    return seen


async def test_weights_are_read_once(three_models: dict[str, str], loads: list[str]) -> None:
    """Fault: every round of an answer, or every answer, loads the models anew."""
    engine = engine_for(three_models)

    async def answer(seed: int) -> None:
        ids = list(PROMPT)
        async with engine.session(seed, 200) as session:
            for turn in range(4):
                await engine.load(f"m{turn % 3}")
                ids += (await session.generate(f"m{turn % 3}", ids, Sampling(3))).token_ids

    await asyncio.gather(*map(answer, range(3)))
    await answer(3)
    assert sorted(loads) == sorted(three_models.values())
    await engine.close()


async def test_adapters_share_the_weights_of_their_base(
    make_model: Callable[..., Path], tmp_path: Path, loads: list[str]
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    base = make_model(5)
    for name in ("one", "two"):
        config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "down_proj"])
        torch.manual_seed(len(name) + ord(name[0]))
        with asked_by_an_old_name():
            tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        tuned.save_pretrained(tmp_path / name)
    specs = {
        "base": ModelSpec(str(base)),
        "one": ModelSpec(str(base), adapter=str(tmp_path / "one")),
        "two": ModelSpec(str(base), adapter=str(tmp_path / "two")),
    }
    engine = LocalEngine(specs)
    loads.clear()

    async def look(name: str) -> torch.Tensor:
        async with engine.session(1, 200) as session:
            return await session.next_logprobs(name, PROMPT)

    seen = dict(zip(specs, await asyncio.gather(*map(look, specs)), strict=True))
    assert loads == [str(base)]
    for name, logprobs in seen.items():
        model = AutoModelForCausalLM.from_pretrained(base)
        if name != "base":
            with asked_by_an_old_name():
                model = PeftModel.from_pretrained(model, tmp_path / name)
        with torch.inference_mode():
            truth = torch.log_softmax(model(torch.tensor([PROMPT])).logits[0, -1], -1)
        torch.testing.assert_close(logprobs, truth, atol=1e-4, rtol=1e-4)
    assert (seen["one"] - seen["two"]).abs().max() > 0.01
    await engine.close()


WITHOUT_LANES: dict[str, tuple[dict[str, Any], str | None]] = {
    "bloom": ({"config_class": BloomConfig, "n_layer": 2, "n_head": 4}, None),
    "falcon": ({"config_class": FalconConfig, "alibi": True}, None),
    "kernel": ({}, "kernel"),
}


@pytest.mark.parametrize("kind", WITHOUT_LANES)
async def test_what_cannot_be_appended_to_is_encoded_anew_and_says_so(
    make_model: Callable[..., Path], kind: str
) -> None:
    """Positions made from a 0/1 mask, and attentions that take no other."""

    def kernel(module: Any, query: Any, key: Any, value: Any, mask: Any, **rest: Any) -> Any:
        assert mask is None or mask.dim() == 2, "it takes 0/1 masks, as flash attention does"
        return sdpa_attention_forward(module, query, key, value, None, **rest)

    AttentionInterface.register("kernel", kernel)
    AttentionMaskInterface.register("kernel", flash_attention_mask)
    changes, attention = WITHOUT_LANES[kind]
    path = make_model(3, **changes)
    engine = LocalEngine({"m": ModelSpec(str(path), attn_implementation=attention)})
    model = AutoModelForCausalLM.from_pretrained(path)
    async with engine.session(1, 200) as session:
        assert not engine.running("m").keeps_cache
        written = await session.generate("m", PROMPT, Sampling(12, temperature=0))
        with torch.inference_mode():
            logits = model(torch.tensor([PROMPT])).logits[0, -1]
        scores = await session.score("m", PROMPT, [4])
    truth = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)
    ended = [*written.token_ids] + [257] * (written.finish == "stop")
    assert ended == truth[0, len(PROMPT) :].tolist()
    assert scores == pytest.approx([float(torch.log_softmax(logits, -1)[4])], abs=1e-4)
    await engine.close()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_criterion_sees_the_distribution_of_each_next_token(
    make_model: Callable[..., Path], kept: bool
) -> None:
    """The first one's too: a patch may end before it has a token."""
    bloom = {} if kept else {"config_class": BloomConfig, "n_layer": 2, "n_head": 4}
    engine = engine_for({"m": str(make_model(3, **bloom))})

    class Ahead:
        finish, entropy, layers = "switcher", False, ()

        def __init__(self, most: int) -> None:
            self.most = most
            self.seen: list[NextToken] = []

        def on_token(self, token: Token) -> bool:
            return False

        def should_stop(self, entropy: float | None, states: Any) -> bool:
            return False

        def should_stop_before(self, next_token: NextToken) -> bool:
            self.seen.append(next_token)
            return len(self.seen) > self.most

    async with engine.session(1, 200) as session:
        for most in (0, 3):
            ahead = Ahead(most)
            sampling = Sampling(12, temperature=0, stopping=ahead)  # type: ignore[arg-type]
            cut = await session.generate("m", PROMPT, sampling)
            assert (len(cut.token_ids), cut.finish) == (most, "switcher")
            assert len(ahead.seen) == most + 1
            for taken, seen in enumerate(ahead.seen):
                here = [*PROMPT, *cut.token_ids[:taken]]
                logprobs = await session.next_logprobs("m", here)
                assert seen.id == int(logprobs.argmax())
                assert seen.probability == pytest.approx(float(logprobs.max().exp()), abs=1e-5)
                entropy = -(logprobs.exp() * logprobs).sum().item()
                assert seen.entropy == pytest.approx(entropy, abs=1e-4)
                torch.testing.assert_close(seen.probabilities, logprobs.exp(), atol=1e-5, rtol=0)
            assert cut.token_ids == tuple(seen.id for seen in ahead.seen[:most])
    await engine.close()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_watch_sees_what_it_asks_for_and_ends_the_patch(
    make_model: Callable[..., Path], kept: bool
) -> None:
    """With kept caches and with models that are encoded anew; what it writes stays the same."""
    bloom = {} if kept else {"config_class": BloomConfig, "n_layer": 2, "n_head": 4}
    engine = engine_for({"m": str(make_model(3, **bloom))})

    class Third:
        finish, entropy, layers = "uncertainty", True, (1, 2)
        seen: list[tuple[float, Any]] = []  # noqa: RUF012
        tokens: list[int] = []  # noqa: RUF012

        def on_token(self, token: Token) -> bool:
            assert token.id is not None
            self.tokens.append(token.id)
            return False

        def should_stop(self, entropy: float, states: Any) -> bool:
            self.seen.append((entropy, states))
            return len(self.seen) == 4

    watch = Third()
    async with engine.session(1, 200) as session:
        whole = await session.generate("m", PROMPT, Sampling(12, temperature=0))
    async with engine.session(1, 200) as session:
        assert engine.running("m").keeps_cache == kept
        cut = await session.generate("m", PROMPT, Sampling(12, temperature=0, stopping=watch))  # type: ignore[arg-type]
        assert cut.finish == "uncertainty"
        assert cut.token_ids == whole.token_ids[:3] == tuple(watch.tokens)
        assert watch.seen[0][1] is None
        for taken, (entropy, states) in enumerate(watch.seen):
            here = [*PROMPT, *cut.token_ids[:taken]]
            logprobs = await session.next_logprobs("m", here)
            assert entropy == pytest.approx(-(logprobs.exp() * logprobs).sum().item(), abs=1e-4)
            if taken:
                torch.testing.assert_close(
                    states, await session.hidden("m", here, (1, 2)), atol=1e-4, rtol=1e-4
                )
        after = await session.generate("m", [*PROMPT, *cut.token_ids], Sampling(9, temperature=0))
    assert after.token_ids == whole.token_ids[3:]
    await engine.close()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_criterion_that_looks_ahead_sees_states_before_the_first_token_too(
    make_model: Callable[..., Path], kept: bool
) -> None:
    """Beside patches that ask for no states, in one batch."""
    bloom = {} if kept else {"config_class": BloomConfig, "n_layer": 2, "n_head": 4}
    engine = engine_for({"m": str(make_model(3, **bloom))})

    class Looks:
        finish, entropy, layers = "switcher", False, (1, -1)

        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_token(self, token: Token) -> bool:
            return False

        def should_stop(self, entropy: None, states: Any) -> bool:
            self.seen.append(states)
            return len(self.seen) == 3

        def should_stop_before(self, next_token: NextToken) -> bool:
            return False

    async def patch(prompt: list[int], looks: Looks | None) -> tuple[int, ...]:
        async with engine.session(1, 200) as session:
            sampling = Sampling(4, temperature=0, stopping=looks)  # type: ignore[arg-type]
            return (await session.generate("m", prompt, sampling)).token_ids

    looking = [Looks(), Looks()]
    prompts = [PROMPT, PROMPT[:5], PROMPT[2:], PROMPT[:3]]
    criteria = (looking[0], None, looking[1], None)
    written = await asyncio.gather(*map(patch, prompts, criteria))
    assert engine.running("m").keeps_cache == kept
    assert [len(ids) for ids in written] == [2, 4, 2, 4]
    async with engine.session(1, 200) as session:
        for looks, prompt, ids in zip(looking, prompts[::2], written[::2], strict=True):
            for taken, states in enumerate(looks.seen):
                hidden = await session.hidden("m", [*prompt, *ids[:taken]], (1, -1))
                torch.testing.assert_close(states, hidden, atol=1e-4, rtol=1e-4)
    await engine.close()


async def test_a_callback_that_fails_takes_no_other_answer_with_it(
    three_models: dict[str, str],
) -> None:
    engine = engine_for(three_models)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    def fails(token: Token) -> None:
        raise ConnectionError("nobody listens")

    async def answer(on_token: Callable[[Token], None] | None) -> int:
        async with engine.session(1, 200) as session:
            done = await session.generate("m0", PROMPT, Sampling(20, temperature=0), on_token)
            return len(done.token_ids)

    async with asyncio.timeout(60):
        assert await asyncio.gather(*map(answer, (fails, None, fails, None))) == [20] * 4
    await engine.close()


async def test_if_the_thread_ends_all_who_wait_learn_it_and_all_who_ask_later(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault: they waited for ever."""
    engine = engine_for(three_models)

    async def answer(model: str) -> None:
        async with engine.session(1, 200) as session:
            await session.generate(model, PROMPT, Sampling(20))

    await answer("m0")
    assert engine.failure is None
    steps: list[LaneRunner] = []

    def ends(runner: LaneRunner) -> None:
        steps.append(runner)
        raise SystemExit("out of luck")

    monkeypatch.setattr(LaneRunner, "step", ends)
    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(answer, ("m0", "m1", "m2")), return_exceptions=True)
        assert [str(error) for error in found] == [engine.failure] * 3
        with pytest.raises(
            EngineError, match=r"has ended: restart the process \(SystemExit: out of luck"
        ):
            await answer("m0")
    assert len(steps) == 1
    assert engine.reserved_bytes == 0
    assert [record.levelname for record in caplog.records if record.exc_info] == ["CRITICAL"]
    await engine.close()
