"""The engine in vLLM's environment, against the local engine with the same checkpoints."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from taketurns.config.answer_format import read_format
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Policy
from taketurns.config.team_config import EngineConfig
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.vllm.engine import VllmEngine
from taketurns.errors import EngineError, PromptError, UnavailableError
from taketurns.generation.formats.state import format_state
from taketurns.pocket.tasks import TASKS
from taketurns.types import Candidate, Completion, Sampling, SamplingOptions, Token

SETTINGS = EngineConfig(
    kind="vllm",
    memory_bytes=256 << 20,
    vllm={"max_model_len": 1024, "enforce_eager": True, "max_num_seqs": 64},
)
BUNDLED = {one.name: one for one in load_team_config("pocket").candidates}
MODELS = [BUNDLED["aligned"], BUNDLED["pretrained"]]
GREEDY = Sampling(16, 0.0, 1.0)
QUESTIONS = [query.text or "" for task in TASKS.values() for query in task.queries("test")[:2]]


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    models = list(MODELS)
    if adapter := os.environ.get("TAKETURNS_ADAPTER"):
        models.append(Candidate("adapted", replace(MODELS[0].spec, adapter=adapter)))
    engine = VllmEngine(models, SETTINGS)
    asyncio.run(engine.load("aligned"))
    children = psutil.Process().children(recursive=True)
    yield engine
    asyncio.run(engine.close())
    _, left = psutil.wait_procs(children, timeout=30)
    assert not [child for child in left if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def local(engine: VllmEngine) -> Iterator[LocalEngine]:
    here = LocalEngine({name: model.spec for name, model in engine._models.items()})
    yield here
    asyncio.run(here.close())


async def prompts(engine: VllmEngine, model: str = "aligned") -> list[list[int]]:
    codec = (await engine.info(model)).codec
    return [codec.encode(text, special=True) for text in QUESTIONS]


async def written(engine: Any, model: str, prompt: list[int], sampling: Sampling) -> Completion:
    async with engine.session(1) as session:
        done: Completion = await session.generate(model, prompt, sampling)
        return done


async def test_it_writes_what_the_local_engine_writes(
    engine: VllmEngine, local: LocalEngine
) -> None:
    names = [name for name in engine._models if name != "adapted"]
    for model in names:
        asked = await prompts(engine, model)
        there = await asyncio.gather(*(written(engine, model, ids, GREEDY) for ids in asked))
        here = await asyncio.gather(*(written(local, model, ids, GREEDY) for ids in asked))
        same = sum(
            (a.token_ids, a.finish) == (b.token_ids, b.finish)
            for a, b in zip(there, here, strict=True)
        )
        print(f"{model}: {same} of {len(asked)} patches are equal")
        assert same >= 0.9 * len(asked)


async def test_an_adapter_is_its_own_model(engine: VllmEngine, local: LocalEngine) -> None:
    if "adapted" not in engine._models:
        pytest.skip("needs peft to make an adapter")
    asked = await prompts(engine)
    there = await asyncio.gather(
        *(written(engine, name, ids, GREEDY) for ids in asked for name in ("aligned", "adapted"))
    )
    here = await asyncio.gather(
        *(written(local, name, ids, GREEDY) for ids in asked for name in ("aligned", "adapted"))
    )
    same = sum(a.token_ids == b.token_ids for a, b in zip(there, here, strict=True))
    differ = sum(a.token_ids != b.token_ids for a, b in zip(there[::2], there[1::2], strict=True))
    print(f"{same} of {len(there)} are equal; the adapter changes {differ} of {len(asked)}")
    assert same >= 0.9 * len(there)
    assert differ > len(asked) // 2


async def test_scores_are_exact_in_any_batch(engine: VllmEngine, local: LocalEngine) -> None:
    """Beside requests for the most probable tokens, whose own numbers stay right too."""
    asked, choices = await prompts(engine), [3, 50, 400, 7]
    top = replace(GREEDY, logprobs=5)

    async def score(ids: list[int]) -> list[float]:
        async with engine.session(1) as session:
            return await session.score("aligned", ids, choices)

    async def tops(ids: list[int]) -> list[Token]:
        seen: list[Token] = []
        async with engine.session(1) as session:
            await session.generate("aligned", ids, top, seen.append)
        return seen

    scores, lists = await asyncio.gather(
        asyncio.gather(*map(score, asked)), asyncio.gather(*map(tops, asked))
    )
    async with local.session(1) as session:
        for ids, found, tokens in zip(asked, scores, lists, strict=True):
            assert found == pytest.approx(await session.score("aligned", ids, choices), abs=1e-3)
            for token in tokens[:1]:
                truth = await session.next_logprobs("aligned", ids)
                assert len(token.top) == 5
                assert token.logprob == pytest.approx(float(truth[token.id]), abs=1e-3)
                best = truth.topk(5).values.tolist()
                assert [value for _, value in token.top] == pytest.approx(best, abs=1e-3)


async def test_scores_come_with_a_patch(engine: VllmEngine) -> None:
    choices = (3, 50, 400)
    for ids in await prompts(engine):
        async with engine.session(1) as session:
            done = await session.generate("aligned", ids, replace(GREEDY, choices=choices))
            if done.finish == "stop":
                assert done.scores is None
                continue
            after = [*ids, *done.token_ids]
            asked = await session.score("aligned", after, choices)
            assert done.scores == pytest.approx(asked, abs=1e-3)


async def test_draws_depend_on_the_seed_and_on_nothing_else(engine: VllmEngine) -> None:
    hot = Sampling(12, 1.0, 0.95)
    asked = await prompts(engine)

    async def draw(ids: list[int], seed: int) -> tuple[int, ...]:
        async with engine.session(seed) as session:
            done: Completion = await session.generate("aligned", ids, hot)
            return done.token_ids

    together = await asyncio.gather(*(draw(ids, 5) for ids in asked))
    alone = [await draw(ids, 5) for ids in asked]
    other = await asyncio.gather(*(draw(ids, 6) for ids in asked))
    assert sum(a == b for a, b in zip(together, alone, strict=True)) >= 0.9 * len(asked)
    assert sum(a != b for a, b in zip(together, other, strict=True)) > len(asked) // 2


@pytest.mark.parametrize("model", ["aligned", "pretrained"])
async def test_open_requests_write_what_fresh_ones_write(engine: VllmEngine, model: str) -> None:
    """Over turns with others' tokens between, a patch taken back, and one that stops early."""
    endless = Sampling(16, 0.0, 1.0, options=SamplingOptions(ignore_eos=True))

    async def answer(number: int, kept: bool) -> list[tuple[int, ...]]:
        engine.keep_requests(kept)
        ids = (await prompts(engine, model))[number % len(QUESTIONS)] + [60 + number]
        patches = []
        async with engine.session(number, 512) as session:
            for turn in range(6):
                done = await session.generate(model, ids, endless)
                patches.append(done.token_ids)
                if turn == 2:
                    ids = [*ids, *done.token_ids[:5], 70]
                else:
                    ids = [*ids, *done.token_ids, *range(80, 80 + 7 * turn)]
        return patches

    try:
        fresh = await asyncio.gather(*(answer(number, False) for number in range(32)))
        kept = await asyncio.gather(*(answer(number, True) for number in range(32)))
    finally:
        engine.keep_requests(False)
    same = sum(a == b for a, b in zip(fresh, kept, strict=True))
    print(f"{same} of {len(fresh)} answers are equal")
    assert same >= 0.9 * len(fresh)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"min_p": 0.9},
        {"logit_bias": ((47, 100.0),)},
        {"repetition_penalty": 1.5},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"min_tokens": 12},
        {"ignore_eos": True},
        {"stop_token_ids": (47,)},
    ],
)
async def test_sampling_options_do_what_they_do_here(
    engine: VllmEngine, local: LocalEngine, options: dict[str, Any]
) -> None:
    hot = "top_k" in options or "min_p" in options
    sampling = Sampling(16, 1.0 if hot else 0.0, 1.0, options=SamplingOptions(**options))
    asked = await prompts(engine)
    there = await asyncio.gather(*(written(engine, "aligned", ids, sampling) for ids in asked))
    here = await asyncio.gather(*(written(local, "aligned", ids, sampling) for ids in asked))
    same = sum(a.token_ids == b.token_ids for a, b in zip(there, here, strict=True))
    if "min_p" not in options:  # its draws are other draws
        assert same >= 0.85 * len(asked)
    assert all(len(done.token_ids) <= 16 for done in there)


async def test_stop_strings_end_a_patch_wherever_they_begin(engine: VllmEngine) -> None:
    info = await engine.info("aligned")
    found = 0
    for ids in await prompts(engine):
        whole = await written(engine, "aligned", ids, GREEDY)
        text = info.codec.decode(whole.token_ids)
        if len(text) < 12:
            continue
        found += 1
        sampling = replace(GREEDY, stop=(text[4:8],), written="")
        done = await written(engine, "aligned", ids, sampling)
        assert done.finish == "stop"
        assert text[4:8] in info.codec.decode(done.token_ids)
        assert len(done.token_ids) < len(whole.token_ids)
    assert found


@pytest.mark.parametrize(
    "wanted", [{"choice": ["12", "345"]}, {"regex": "[0-9]{2,4}"}, {"grammar": 'start: "7" "8"'}]
)
async def test_formats_are_kept_to(engine: VllmEngine, wanted: dict[str, Any]) -> None:
    info = await engine.info("aligned")
    answer_format = read_format(wanted)
    assert answer_format is not None
    state = format_state(answer_format, Policy(patch_size=16, max_tokens=16), [info])
    assert state is not None
    pattern = {"choice": "12|345", "regex": "[0-9]{2,4}", "grammar": "78"}[answer_format.kind]
    for ids in (await prompts(engine))[:4]:
        constraint = state.constraint(0, b"")
        done = await written(engine, "aligned", ids, replace(GREEDY, constraint=constraint))
        assert re.fullmatch(pattern, info.codec.decode(done.token_ids))


async def test_a_prompts_own_tokens_have_their_probabilities(
    engine: VllmEngine, local: LocalEngine
) -> None:
    for ids in (await prompts(engine))[:3]:
        async with engine.session(1) as there, local.session(1) as here:
            found = await there.prompt_logprobs("aligned", ids, 3)
            truth = await here.prompt_logprobs("aligned", ids, 3)
        assert [token.id for token in found] == ids
        assert found[0].logprob is None
        for one, other in zip(found[1:], truth[1:], strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
            values = [value for _, value in other.top]
            assert [value for _, value in one.top] == pytest.approx(values, abs=1e-3)


async def test_tokens_are_seen_one_by_one_and_a_cancelled_patch_is_given_up(
    engine: VllmEngine,
) -> None:
    endless = Sampling(900, 0.0, 1.0, options=SamplingOptions(ignore_eos=True))
    seen: list[Token] = []
    ids = (await prompts(engine))[0]
    async with engine.session(1) as session:
        writing = asyncio.create_task(session.generate("aligned", ids, endless, seen.append))
        while len(seen) < 3:
            await asyncio.sleep(0.005)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    count = len(seen)
    await asyncio.sleep(0.5)
    assert len(seen) == count < 900
    llm = (await engine.running("aligned")).llm
    assert llm.get_num_unfinished_requests() == 0


async def test_what_does_not_fit_is_refused_before_it_is_sent(engine: VllmEngine) -> None:
    async with engine.session(1) as session:
        with pytest.raises(PromptError, match="does not fit the context of aligned, 1024 tokens"):
            await session.generate("aligned", [5] * 1020, GREEDY)
        with pytest.raises(EngineError, match="was given the token"):
            await session.generate("aligned", [10**6], GREEDY)
        assert (await session.generate("aligned", [5] * 1008, GREEDY)).token_ids


async def test_an_engine_that_dies_ends_its_answers_with_its_name(engine: VllmEngine) -> None:
    """The last test: an engine is gone after it. The others write on."""
    endless = Sampling(900, 0.0, 1.0, options=SamplingOptions(ignore_eos=True))
    ids = (await prompts(engine, "pretrained"))[0]
    llm = (await engine.running("pretrained")).llm
    (process,) = llm.engine_core.resources.engine_manager.processes
    async with engine.session(1) as session:
        writing = asyncio.create_task(session.generate("pretrained", ids, endless))
        await asyncio.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            with pytest.raises(UnavailableError, match="the vLLM engine of pretrained has ended"):
                await writing
        with pytest.raises(UnavailableError, match="the vLLM engine of pretrained has ended"):
            await session.score("pretrained", ids, [1])
        assert (await session.generate("aligned", ids, GREEDY)).token_ids
    assert engine.failure is None
