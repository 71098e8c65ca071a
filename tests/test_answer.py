"""An answer that is forked goes on from there by itself, and nothing is read twice."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from taketurns import Candidate, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.generation.loop import GenerationLoop
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import RandomSwitcher

QUERY = Query("q", text="Où est-il?")
POLICY = Policy(patch_size=3, max_tokens=30, temperature=1.0, speaker_top_p=1.0)


def real(
    models: dict[str, Path], switcher: Switcher | None = None, extra: dict[str, Path] | None = None
) -> tuple[Team, LocalEngine]:
    specs = {name: ModelSpec(str(path)) for name, path in (models | (extra or {})).items()}
    engine = LocalEngine(specs)
    candidates = [Candidate(name, specs[name]) for name in models]
    return Team(candidates, engine, switcher or RandomSwitcher(), POLICY), engine


async def encoded_by(engine: LocalEngine, model: str, work: Any) -> int:
    before = engine.counters(model).encoded_tokens
    await work
    return engine.counters(model).encoded_tokens - before


async def test_a_fork_reads_nothing_that_was_read_before(make_model: Callable[..., Path]) -> None:
    names = ["m0", "m1", "m2"]
    team, engine = real(
        {name: make_model(seed) for seed, name in enumerate(names)},
        LMSwitcher("s"),
        {"s": make_model(7)},
    )
    async with team.answer(await team.draft(QUERY), 5) as answer, AsyncExitStack() as stack:
        for speaker in (0, 1, 1, 2):
            await answer.step(speaker)
        await answer.read()
        assert await encoded_by(engine, "m0", answer.read()) == 1
        for speaker, name in enumerate(names):
            for seed in range(4):
                fork = await stack.enter_async_context(answer.fork(seed))
                # The last token of the prompt is fed again, for its logits.
                assert await encoded_by(engine, name, fork.step(speaker)) == 1
        fork = await stack.enter_async_context(answer.fork(9))
        question = await encoded_by(engine, "s", fork.step())
        assert question < 110  # the question, in bytes; not the trace
    await team.aclose()


async def test_an_earlier_draft_is_taken_up_where_it_ended(make_model: Callable[..., Path]) -> None:
    team, engine = real({f"m{seed}": make_model(seed) for seed in range(2)})
    async with team.answer(await team.draft(QUERY), 5) as answer:
        drafts = []
        for speaker in (0, 1, 0, 1):
            drafts.append(answer.state.copy())
            await answer.step(speaker)
        async with answer.fork(1, drafts[1]) as fork:
            assert fork.state.patches == answer.state.patches[:1]
            read = await encoded_by(engine, "m0", fork.step(0))
            assert read == 1  # the last token m0 wrote there
            assert len(drafts[1].patches) == 1
            assert len(fork.state.patches) == 2
            assert len(answer.state.patches) == 4
    await team.aclose()


async def test_a_fork_may_begin_inside_a_character(
    make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    """Random models write all sorts of bytes, in two tokenizers or in one."""
    for tokenizer in ({}, {"tokenizer": other_tokenizer}):
        team, _ = real({"m0": make_model(0), "m1": make_model(1, **tokenizer)})
        async with team.answer(await team.draft(QUERY), 3) as answer:
            drafts = []
            while not answer.ended:
                drafts.append(answer.state.copy())
                await answer.step()
            for draft in drafts:
                async with answer.fork(len(draft.patches), draft) as fork:
                    await fork.write()
                    trace = fork.state.trace(0)
                    assert trace.patches[: len(draft.patches)] == tuple(draft.patches)
                    assert trace.tokens <= 30
                    codec = (await team.engine.info("m0")).codec
                    if trace.exact:
                        ids = [i for patch in trace.patches for i in patch.token_ids]
                        assert trace.text == codec.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
        await team.aclose()


async def test_a_switcher_without_a_speakers_control_token_goes_on(
    make_model: Callable[..., Path], byte_tokenizer: Any
) -> None:
    """Fault: the token is handed to a switcher that has no such row, and the answer fails."""
    chatty = copy.deepcopy(byte_tokenizer)
    chatty.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    size, tool = len(chatty), chatty.convert_tokens_to_ids("<|tool|>")
    folders = {f"m{i}": make_model(i, chatty, vocab_size=size) for i in range(2)}
    for folder in folders.values():  # they write nothing else
        settings = json.loads((folder / "generation_config.json").read_text())
        settings["suppress_tokens"] = [token for token in range(size) if token != tool]
        (folder / "generation_config.json").write_text(json.dumps(settings))
    switcher = {"s": make_model(7, vocab_size=len(byte_tokenizer))}
    team, _ = real(folders, LMSwitcher("s"), switcher)
    trace = await team.agenerate(QUERY, policy=replace(POLICY, max_tokens=9))
    assert (trace.exact, trace.error, trace.text) == (True, None, "")
    assert [patch.token_ids for patch in trace.patches] == [(tool,) * 3] * 3
    await team.aclose()


async def test_forks_draw_by_their_seeds() -> None:
    engine = ScriptedEngine({n: lambda p, s, n=n: n * s.max_tokens for n in "abc"})
    candidates = [Candidate(name, ModelSpec(name)) for name in "abc"]
    team = Team(candidates, engine, RandomSwitcher(), Policy(patch_size=1, max_tokens=20))

    async def written(answer: GenerationLoop, seed: int) -> str:
        async with answer.fork(seed) as fork:
            await fork.write()
            return fork.state.trace(0).text

    async with team.answer(await team.draft(QUERY), 0) as answer:
        await answer.step(1)
        await answer.read()  # an engine that keeps nothing has nothing to read
        one, same, other = await asyncio.gather(*(written(answer, s) for s in (1, 1, 2)))
        assert answer.state.trace(0).text == "b"
    assert one == same != other
    assert one.startswith("b")
    assert len(one) == 20
    assert engine.open_sessions == 0


async def test_a_given_speaker_is_recorded_as_chosen() -> None:
    engine = ScriptedEngine({n: [n] for n in "ab"})
    candidates = [Candidate(name, ModelSpec(name)) for name in "ab"]
    team = Team(candidates, engine, RandomSwitcher(), Policy(patch_size=4))
    async with team.answer(await team.draft(QUERY), 0) as answer:
        patch = await answer.step(1)
        assert (patch.speaker, patch.reason, patch.probabilities) == (1, "chosen", None)
        assert answer.ended


async def test_a_given_speaker_is_due_whatever_the_rules_say() -> None:
    """Fault: the rule about the first and the last patch overrides a forced choice."""
    engine = ScriptedEngine({n: lambda p, s, n=n: n * s.max_tokens for n in "ab"})
    candidates = [Candidate(name, ModelSpec(name)) for name in "ab"]
    policy = Policy(patch_size=4, max_tokens=8, opening=0, closing=0, closing_cue=" So:")
    team = Team(candidates, engine, RandomSwitcher(), policy)
    async with team.answer(await team.draft(QUERY), 0) as answer:
        for _ in range(2):
            patch = await answer.step(1)
            assert (patch.speaker, patch.reason, patch.text) == (1, "chosen", "bbbb")
        assert answer.ended
        assert answer.text == "bbbbbbbb"
