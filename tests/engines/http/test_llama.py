"""A team on llama.cpp's server: token ids are handed over, also inside characters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, log
from pathlib import Path
from typing import Any

import pytest

from taketurns import Candidate, ConfigError, EngineError, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.http.fleet import common
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import scripted_codec
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Delta, Endpoint, Finish, Sampling, Token, Trace

from .llama import LlamaServer
from .served import ModelServer, serving

TEXT = "naïve 😀, 日本語: 3.14!"


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripted models' tokenizer."""
    folder = tmp_path_factory.mktemp("spelling")
    scripted_codec().tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pocket() -> dict[str, Candidate]:
    """The bundled checkpoints, and one of them as the switcher's model."""
    candidates = {one.name: one for one in load_team_config("pocket").candidates}
    return candidates | {"switcher": Candidate("switcher", candidates["aligned"].spec)}


@pytest.fixture(scope="module")
def local(pocket: dict[str, Candidate]) -> Iterator[LocalEngine]:
    engine = LocalEngine({name: one.spec for name, one in pocket.items()})
    yield engine
    asyncio.run(engine.close())


def on(
    spec: ModelSpec, *servers: ModelServer, name: str = "a", served_as: str | None = None
) -> HttpEngine:
    urls = tuple(server.url for server in servers)
    models = [Candidate(name, spec, Endpoint(urls, served_as))]
    return HttpEngine(models, EngineConfig(kind="http", retries=1), first_cooldown=0.01)


def writing(text: str, kind: type[ModelServer] = LlamaServer, **options: Any) -> Any:
    """A server of a model that goes on with `text` after a prompt of one token and what it wrote
    of it."""
    requests: list[dict[str, Any]] = []

    def script(prompt: str, sampling: Sampling) -> Sequence[int]:
        return scripted_codec().encode(text)[len(requests[-1]["prompt"]) - 1 :]

    def falling(prompt: str, choices: Sequence[int]) -> list[float]:
        return [1 / (2 + choice) for choice in choices]

    engine = ScriptedEngine({"a": script}, scores={"a": options.pop("scores", falling)})
    return kind(engine, ("a",), requests=requests, **options)


async def test_a_team_on_llama_cpp_is_the_local_team(
    pocket: dict[str, Candidate], local: LocalEngine
) -> None:
    """Each model on a server of its own that calls it by its file: no names are needed."""
    servers = {name: LlamaServer(local, (name,), called=f"/m/{i}.gguf")
               for i, name in enumerate(pocket)}  # fmt: skip
    rules = Policy(patch_size=6, max_tokens=40, temperature=0.0)
    candidates = [one for name, one in pocket.items() if name != "switcher"]
    here = Team(candidates, local, LMSwitcher("switcher"), rules)
    async with serving(*servers.values()):
        models = [
            replace(one, endpoint=Endpoint((servers[name].url,))) for name, one in pocket.items()
        ]
        engine = HttpEngine(models, EngineConfig(kind="http"))
        async with Team(candidates, engine, LMSwitcher("switcher"), rules) as there:
            for question in ("what is 17 + 25 ?", "what does rebol fonul work as?"):
                expected = await here.agenerate(question)
                whole = await there.agenerate(question)
                *events, streamed = [event async for event in there.stream(question)]
                assert isinstance(streamed, Trace)
                assert whole.error is None
                assert whole.exact
                assert written(whole) == written(streamed) == written(expected)
                for patch, truth in zip(whole.patches, expected.patches, strict=True):
                    assert patch.probabilities == pytest.approx(truth.probabilities, abs=1e-6)
                assert "".join(e.text for e in events if isinstance(e, Delta)) == expected.text
        asked = [body for server in servers.values() for body in server.requests]
        assert all(isinstance(body["prompt"], list) for body in asked)
        info = await engine.info("aligned")
        assert info.context == 4096, "of one answer, not what the model was trained for"
        assert info.vocabulary == info.codec.size


def written(trace: Trace) -> list[tuple[object, ...]]:
    return [(p.speaker, p.token_ids, p.text, p.finish, p.reason) for p in trace.patches]


async def test_no_setting_of_the_server_changes_what_is_sampled(spelling: Path) -> None:
    server = writing("ab")
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        async with engine.session(0) as session:
            await session.generate("a", [65], Sampling(2, 0.8, 0.9))
            await session.score("a", [65], [66])
        for body in server.requests[-2:]:
            assert body["samplers"] == ["temperature", "top_p"], "and in this order"
            assert (body["mirostat"], body["dynatemp_range"], body["min_keep"]) == (0, 0, 0)
            assert body["ignore_eos"] is False
        assert server.requests[-2]["logit_bias"] == {}
        await engine.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_tokens_inside_characters_are_handed_over_too(spelling: Path, size: int) -> None:
    """llama.cpp streams none of them, and weighs none."""
    server = writing(TEXT)
    spec = ModelSpec(str(spelling), prompt="{text}")
    async with serving(server):
        models = [Candidate(n, spec, Endpoint((server.url,))) for n in ("a", "b")]
        team = Team(models, HttpEngine(models), FixedSwitcher([0, 1]), Policy(patch_size=size))
        async with team:
            await team.engine.info("a")
            await team.engine.info("b")
            probed = len(server.requests)
            whole = await team.agenerate("?")
            sent = len(server.requests)
            *events, streamed = [event async for event in team.stream("?")]
            assert isinstance(streamed, Trace)
            assert server.requests[probed:sent] == server.requests[sent:]
        ids = scripted_codec().encode(TEXT)
        for trace in (whole, streamed):
            assert trace.error is None
            assert trace.exact
            assert trace.text == TEXT
            assert [i for patch in trace.patches for i in patch.token_ids] == ids
        assert "".join(e.text for e in events if isinstance(e, Delta)) == TEXT


async def test_what_was_written_before_a_character_is_not_asked_for_again(spelling: Path) -> None:
    server = writing("abc日d")
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        await engine.info("a")
        server.requests.clear()
        seen: list[Token] = []
        async with engine.session(0) as session:
            done = await session.generate("a", [65], Sampling(6, 0.0), seen.append)
        ids = scripted_codec().encode("abc日")
        assert list(done.token_ids) == [token.id for token in seen] == ids
        streamed, rest = server.requests
        assert (streamed["stream"], rest.get("stream")) == (True, None)
        assert (rest["prompt"], rest["max_tokens"]) == ([65, *ids[:3]], 3)
        await engine.close()


async def test_log_probabilities_come_with_the_tokens_they_are_of(spelling: Path) -> None:
    def scores(text: str, choices: Sequence[int]) -> list[float]:
        return [1 / (2 + choice) for choice in choices]

    server = writing("日a", scores=scores)
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        seen: list[Token] = []
        async with engine.session(0) as session:
            await session.generate("a", [65], Sampling(4, 0.0, logprobs=2), seen.append)
        ids = scripted_codec().encode("日a")
        assert [token.id for token in seen] == ids
        assert [token.logprob for token in seen[:2]] == [None, None]
        for token in seen[2:]:
            assert token.id is not None
            assert token.logprob == pytest.approx(-log(2 + token.id))
            assert [other for other, _ in token.top] == [0, 1]
            assert [value for _, value in token.top] == pytest.approx([-log(2), -log(3)])
        await engine.close()


async def test_scores_are_by_id(spelling: Path) -> None:
    """Where the most probable token ends inside a character no log-probabilities would come; and
    texts would not tell apart tokens that decode alike."""
    half, other = scripted_codec().encode("日")[:2]  # each alone decodes to the same character
    one = scripted_codec().encode("1")[0]

    def scores(text: str, choices: Sequence[int]) -> list[float]:
        odds = {half: 0.5, other: 0.25, one: 0.125}
        return [odds.get(choice, 0.0) for choice in choices]

    server = writing("日", scores=scores)
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        async with engine.session(0) as session:
            found = await session.score("a", [65], [one, other, half, 66])
            assert found == pytest.approx([log(0.125), log(0.25), log(0.5), -inf])
            with pytest.raises(EngineError, match="none of 'c', 'd' is among the"):
                await session.score("a", [65], [66, 67])
        await engine.close()


async def test_a_server_with_one_model_needs_no_name_for_it(spelling: Path) -> None:
    server = writing("ab", called="/srv/q4.gguf")
    async with serving(server):
        (report,) = await on(ModelSpec(str(spelling)), server).inspect("a")
        assert report.abilities is not None
        assert (report.abilities.served_as, report.abilities.only) == ("/srv/q4.gguf", True)
        (named,) = await on(ModelSpec(str(spelling)), server, served_as="/srv/q4.gguf").inspect("a")
        assert named.abilities is not None
        assert not named.abilities.only
        (wrong,) = await on(ModelSpec(str(spelling)), server, served_as="q5").inspect("a")
        assert "it serves /srv/q4.gguf, not 'q5'" in str(wrong.problem)
        # An adapter would be another model than the one that is there.
        (lora,) = await on(ModelSpec(str(spelling), adapter="some/lora"), server).inspect("a")
        assert "set served_as of a" in str(lora.problem)


async def test_a_server_with_another_model_is_refused(
    spelling: Path, pocket: dict[str, Candidate]
) -> None:
    server = writing("ab")
    async with serving(server):
        engine = on(pocket["sft"].spec, server)
        with pytest.raises(
            ConfigError, match=r"but the tokenizer of a gives .*: serve that model, or set"
        ):
            await engine.info("a")
        assert server.requests == [], "it was asked to write nothing"
        await engine.close()


async def test_ids_that_a_server_does_not_know_are_not_sent(spelling: Path) -> None:
    never = [70, 252]
    (spelling / "generation_config.json").write_text(f'{{"suppress_tokens": {never}}}')
    server = writing("ab", vocabulary=250)
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        async with engine.session(0) as session:
            await session.generate("a", [65], Sampling(2, 0.0))
            assert server.requests[-1]["logit_bias"] == {"70": -100}
            sent = len(server.requests)
            with pytest.raises(
                EngineError, match="a was given the token 252, and it knows 0 to 249"
            ):
                await session.generate("a", [65, 252], Sampling(2))
            with pytest.raises(EngineError, match="the token 253"):
                await session.score("a", [65], [66, 253])
            assert len(server.requests) == sent
        await engine.close()
    (spelling / "generation_config.json").unlink()


async def test_a_model_on_two_kinds_of_servers_is_asked_for_what_both_can_do(
    spelling: Path,
) -> None:
    """They report ids in fields of their own, so text is what is left."""
    llama, vllm = (
        writing("abc", called="a"),
        writing("abc", ModelServer),
    )
    async with serving(llama, vllm):
        engine = on(ModelSpec(str(spelling)), llama, vllm)
        abilities = [report.abilities for report in await engine.inspect("a")]
        assert all(one is not None and one.token_ids for one in abilities)
        both = common([one for one in abilities if one is not None])
        assert not both.token_ids
        for seed in range(4):
            async with engine.session(seed) as session:
                done = await session.generate("a", [65], Sampling(3, 0.0))
            assert done.text == "abc"
        await engine.close()


async def test_a_patch_does_not_end_inside_a_character_for_being_unsure(spelling: Path) -> None:
    """How sure the model was of such a token is not known."""

    class Unsure:
        finish: Finish = "uncertainty"
        entropy = True
        layers: tuple[int, ...] = ()

        def __init__(self) -> None:
            self.shown: list[float | None] = []

        def on_token(self, token: Token) -> bool:
            return False

        def should_stop(self, entropy: float | None, states: Any) -> bool:
            self.shown.append(entropy)
            return False

    watch, server = Unsure(), writing("a日b")
    async with serving(server):
        engine = on(ModelSpec(str(spelling)), server)
        assert "entropy" in (await engine.info("a")).capabilities
        async with engine.session(0) as session:
            done = await session.generate("a", [65], Sampling(5, 0.0, stopping=watch))
        assert len(done.token_ids) == 5
        assert len(watch.shown) == 3
        assert all(watch.shown), "none is taken for sure"
        await engine.close()
