"""On servers a folded team asks for a patch and has the next decision: one call, no switcher's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import ConfigError, Policy, Team
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.types import Endpoint, Finish, Patch, Sampling, Token

from ..engines.http.served import ModelServer, Style, serving
from .conftest import NAMES

QUESTIONS = ("what is 17 + 25 ?", "what does rebol fonul work as?", "how old is rebol fonul?")
POLICY = Policy(patch_size=6, max_tokens=40, temperature=0.0)


@pytest.fixture(scope="module")
def config(folded: Path) -> TeamConfig:
    return replace(load_team_config(folded / "team.yaml"), policy=POLICY)


@pytest.fixture(scope="module")
def local(config: TeamConfig) -> Iterator[LocalEngine]:
    engine = LocalEngine({one.name: one.spec for one in config.candidates})
    yield engine
    asyncio.run(engine.close())


def on(config: TeamConfig, server: ModelServer, **policy: Any) -> Team:
    candidates = [replace(one, endpoint=Endpoint((server.url,))) for one in config.candidates]
    switcher = FoldedSwitcher(config.switcher.tokens, config.switcher.reader or 0)
    engine = HttpEngine(candidates, config.engine, first_cooldown=0.01)
    return Team(candidates, engine, switcher, replace(config.policy, **policy))


def here(config: TeamConfig, engine: LocalEngine) -> Team:
    switcher = FoldedSwitcher(config.switcher.tokens, config.switcher.reader or 0)
    return Team(config.candidates, engine, switcher, config.policy)


async def test_one_call_a_patch_and_the_same_answers(
    config: TeamConfig, local: LocalEngine
) -> None:
    server = ModelServer(local, NAMES)
    async with serving(server), on(config, server) as there:
        await there.prepare()
        for question in QUESTIONS:
            expected = await here(config, local).agenerate(question)
            assert len(expected.patches) > 1
            server.requests.clear()
            whole = await there.agenerate(question)
            calls = len(server.requests)
            events = [event async for event in there.stream(question)]
            for trace in (whole, events[-1]):
                assert trace.error is None
                assert [(p.speaker, p.token_ids) for p in trace.patches] == [
                    (p.speaker, p.token_ids) for p in expected.patches
                ]
                for one, other in zip(trace.patches, expected.patches, strict=True):
                    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
            assert calls == len(expected.patches) + 1  # the first decision has no patch before it
            assert sum(len(e.token_ids) for e in events if isinstance(e, Patch)) == expected.tokens


@pytest.mark.parametrize(
    "until", ["sentence", "uncertainty", pytest.param("random", marks=pytest.mark.slow)]
)
async def test_patches_that_end_by_a_rule_are_decided_alike(
    config: TeamConfig, local: LocalEngine, until: Any
) -> None:
    """A sentence's end tells the decision as a full patch does; what tells how unsure a speaker is
    leaves no room for it, and it is asked for."""
    rule = PatchRule(until, min=2, max=9, rise=0.05)
    config = replace(config, policy=replace(config.policy, patch=rule))
    server, ended = ModelServer(local, NAMES), set()
    async with serving(server), on(config, server) as there:
        await there.prepare()
        for question in QUESTIONS:
            expected = await here(config, local).agenerate(question)
            server.requests.clear()
            whole = await there.agenerate(question)
            calls, kinds = len(server.requests), [p.reason for p in whole.patches]
            *_, streamed = [event async for event in there.stream(question)]
            for trace in (whole, streamed):
                assert trace.error is None
                assert [(p.speaker, p.token_ids, p.finish) for p in trace.patches] == [
                    (p.speaker, p.token_ids, p.finish) for p in expected.patches
                ]
                for one, other in zip(trace.patches, expected.patches, strict=True):
                    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
            ended |= {patch.finish for patch in whole.patches}
            assert kinds == ["chosen"] * len(kinds)
            assert len(kinds) > 1
            assert calls == (2 * len(kinds) if until == "uncertainty" else len(kinds) + 1)
    assert until in (*ended, "random")


async def test_a_folded_head_is_not_asked_at_every_token(
    config: TeamConfig, local: LocalEngine
) -> None:
    config = replace(config, policy=replace(config.policy, patch=PatchRule("switcher")))
    with pytest.raises(ConfigError, match="only a switcher of kind head supports") as caught:
        await here(config, local).agenerate(QUESTIONS[0])
    assert "\n" not in str(caught.value)


async def test_a_team_with_an_opening_speaker_makes_no_other_call(
    config: TeamConfig, local: LocalEngine
) -> None:
    server = ModelServer(local, NAMES)
    async with serving(server), on(config, server, opening=1, closing=2) as there:
        await there.prepare()
        server.requests.clear()
        trace = await there.agenerate(QUESTIONS[0])
        assert trace.error is None
        assert [patch.reason for patch in trace.patches][:2] == ["opening", "chosen"]
        assert len(server.requests) == len(trace.patches) > 2
        for body in server.requests:
            assert body["logit_bias"] == {str(token): -100 for token in config.switcher.tokens}


async def test_a_full_context_has_no_next_token_to_tell_of(
    config: TeamConfig, local: LocalEngine
) -> None:
    info = await local.info("sft")
    prompt = info.codec.encode(QUESTIONS[0], special=True)
    plain = Sampling(3, 0.0, choices=config.switcher.tokens)
    server = ModelServer(local, NAMES, context=len(prompt) + 4)
    async with serving(server), on(config, server) as there, there.engine.session(0) as session:
        for sampling, given in (
            (plain, True),
            (replace(plain, max_tokens=4), False),
        ):
            done = await session.generate("sft", prompt, sampling)
            assert len(done.token_ids) == sampling.max_tokens
            assert (done.scores is not None) == given
            if given:
                after = [*prompt, *done.token_ids]
                async with local.session(0) as other:
                    truth = await other.score("sft", after, plain.choices)
                assert done.scores == pytest.approx(truth, abs=1e-5)


class Forgetful(ModelServer):
    """Leaves the last token out of the first reply that should tell a decision."""

    forgot = False

    async def _write(self, writer: Any, asked: dict[str, Any], session: Any) -> None:
        if "logprob_token_ids" in asked and asked["max_tokens"] == 7 and not self.forgot:
            self.forgot = True
            asked = asked | {"max_tokens": 6}
        await super()._write(writer, asked, session)


class Breaking(ModelServer):
    """Ends the first stream right after its first sentence, as if that were all there was."""

    broke = False

    async def _write(self, writer: Any, asked: dict[str, Any], session: Any) -> None:
        if asked.get("stream") and not self.broke:
            self.broke = True
            asked = asked | {"max_tokens": 3}
        await super()._write(writer, asked, session)


class Third:
    """A sentence ends after three tokens."""

    finish: Finish = "sentence"
    entropy = False
    layers: tuple[int, ...] = ()
    written = 0

    def on_token(self, token: Token) -> bool:
        self.written += 1
        return self.written == 3

    def should_stop(self, entropy: float | None, states: Any) -> bool:
        return False


async def test_a_decision_after_a_sentence_that_was_cut_off_is_asked_for_alone(
    config: TeamConfig, local: LocalEngine
) -> None:
    prompt = (await local.info("sft")).codec.encode(QUESTIONS[0], special=True)
    sampling = Sampling(6, 0.0, choices=config.switcher.tokens)
    server = Breaking(local, NAMES)
    async with serving(server), on(config, server) as there, there.engine.session(0) as session:
        await there.prepare()
        server.requests.clear()
        done = await session.generate("sft", prompt, replace(sampling, stopping=Third()))
        assert [body["max_tokens"] for body in server.requests] == [7, 1]
    async with local.session(0) as session:
        truth = await session.generate("sft", prompt, replace(sampling, max_tokens=3))
        scores = await session.score("sft", [*prompt, *truth.token_ids], sampling.choices)
    assert (done.token_ids, done.finish) == (truth.token_ids, "sentence")
    assert done.scores == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("watched", [False, True])
async def test_a_decision_that_was_cut_off_is_asked_for_alone(
    config: TeamConfig, local: LocalEngine, watched: bool
) -> None:
    prompt = (await local.info("sft")).codec.encode(QUESTIONS[0], special=True)
    sampling = Sampling(6, 0.0, choices=config.switcher.tokens)
    server, seen = Forgetful(local, NAMES), list[Any]()
    async with serving(server), on(config, server) as there, there.engine.session(0) as session:
        await there.prepare()
        server.requests.clear()
        done = await session.generate("sft", prompt, sampling, seen.append if watched else None)
        assert [body["max_tokens"] for body in server.requests] == [7, 1]
    async with local.session(0) as session:
        truth = await session.generate("sft", prompt, sampling)
        scores = await session.score("sft", [*prompt, *truth.token_ids], sampling.choices)
    assert done.token_ids == truth.token_ids
    assert done.scores == pytest.approx(scores, abs=1e-5)
    assert [token.id for token in seen] == list(done.token_ids if watched else ())


async def test_a_fork_and_a_resumed_answer_decide_alike(
    config: TeamConfig, local: LocalEngine
) -> None:
    """What came with a patch and what is asked for later are the same decision."""
    server = ModelServer(local, NAMES)
    async with serving(server), on(config, server) as there:
        trace = await there.agenerate(QUESTIONS[1])
        query = trace.query
        for count in range(1, len(trace.patches)):
            draft = await there.draft(query)
            draft.resume(trace.patches[:count])
            async with there.answer(draft, 0) as answer:
                again = await answer.step()
            assert again.probabilities == pytest.approx(
                trace.patches[count].probabilities, abs=1e-5
            )


@pytest.mark.parametrize("style", ["ids-in", "text"])
async def test_a_server_that_tells_no_given_tokens_is_refused(
    config: TeamConfig, local: LocalEngine, style: Style
) -> None:
    server = ModelServer(local, NAMES, style)
    async with serving(server), on(config, server) as there:
        with pytest.raises(ConfigError, match="serve it with vLLM, or use a switcher of kind lm"):
            await there.agenerate(QUESTIONS[0])


async def test_checkpoints_that_were_not_exported_are_refused(config: TeamConfig) -> None:
    bundled = load_team_config("pocket").candidates
    engine = LocalEngine({one.name: one.spec for one in bundled})
    team = Team(bundled, engine, FoldedSwitcher(config.switcher.tokens, 0), POLICY)
    async with team:
        with pytest.raises(ConfigError, match=r"pretrained may write token 10, .* export"):
            await team.agenerate(QUESTIONS[0])
