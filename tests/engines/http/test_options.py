"""Sampling options on servers: an answer of many requests is what one engine would write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import Candidate, ConfigError, ModelSpec, Policy, SamplingOptions, Team
from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import ALL_OPTIONS, Engine
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.http.options import biases, options_of
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import ScriptedEngine, scripted_codec
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Endpoint, Sampling, Trace

from .llama import LlamaServer
from .served import ModelServer, serving

NAMES = ["m0", "m1"]
KINDS: dict[str, Any] = {"vllm": ModelServer, "llama": LlamaServer, "text": ModelServer}
PUSHED = ((70, 12.0), (71, 11.0), (72, 10.0), (73, 9.0))  # so that tokens come again


@pytest.fixture(scope="module")
def local(three_models: dict[str, str]) -> Iterator[LocalEngine]:
    engine = LocalEngine({name: ModelSpec(three_models[name]) for name in NAMES})
    yield engine
    asyncio.run(engine.close())


def team_on(engine: Engine, specs: dict[str, ModelSpec], *servers: Any, **policy: Any) -> Team:
    candidates = [
        Candidate(name, spec, Endpoint((servers[n].url,)) if servers else None)
        for n, (name, spec) in enumerate(specs.items())
    ]
    rules = Policy(**{"patch_size": 4, "max_tokens": 24, "temperature": 0.0} | policy)
    if servers:
        engine = HttpEngine(candidates, EngineConfig(kind="http", retries=1), first_cooldown=0.01)
    return Team(candidates, engine, FixedSwitcher([0, 1]), rules)


def specs_of(models: dict[str, str]) -> dict[str, ModelSpec]:
    return {name: ModelSpec(models[name], prompt="{text}") for name in NAMES}


def served_by(kind: str, engine: Engine, models: dict[str, str]) -> list[Any]:
    style = {"text": "text", "vllm": "vllm"}.get(kind)
    more = {} if style is None else {"style": style}
    return [KINDS[kind](engine, [name], **more) for name in NAMES]


async def write(team: Team, seed: int = 0) -> Trace:
    trace = await team.agenerate("what follows", seed=seed)
    assert trace.error is None, trace.error
    return trace


SAME: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 2},
    "min_p": {"min_p": 0.3},
    "frequency": {"frequency_penalty": 2.0, "logit_bias": PUSHED},
    "repetition": {"repetition_penalty": 1.6, "logit_bias": PUSHED},
    "bias": {"logit_bias": PUSHED},
    "min_tokens": {"min_tokens": 9, "logit_bias": ((257, 90.0), *PUSHED)},
    "ignore_eos": {"ignore_eos": True, "logit_bias": ((257, 90.0), *PUSHED)},
    "stop": {"stop_token_ids": (72,), "logit_bias": PUSHED, "frequency_penalty": 1.0},
    "stop_later": {"stop_token_ids": (70,), "logit_bias": PUSHED, "min_tokens": 6},
}
LLAMA = ("top_k", "min_p", "repetition", "bias", "ignore_eos")


@pytest.mark.parametrize(
    ("kind", "name"), [*(("vllm", name) for name in SAME), *(("llama", name) for name in LLAMA)]
)
async def test_an_answer_is_the_local_one(
    local: LocalEngine, three_models: dict[str, str], kind: str, name: str
) -> None:
    specs = specs_of(three_models)
    policy = {"sampling": SamplingOptions(**SAME[name])}
    if name in ("top_k", "min_p"):
        policy |= {"temperature": 1.0, "speaker_top_p": 1.0}
        # The draws are the servers' own, so only what is drawn from is compared.
    expected = await write(team_on(local, specs, **policy))
    servers = served_by(kind, local, three_models)
    async with serving(*servers):
        team = team_on(local, specs, *servers, **policy)
        found = await write(team)
        await team.aclose()
    asked = [body for server in servers for body in server.requests if body["max_tokens"] > 1]
    assert asked
    if name in ("top_k", "min_p"):
        assert {body[name] for body in asked} == {SAME[name][name]}
        return
    assert [p.token_ids for p in found.patches] == [p.token_ids for p in expected.patches]
    assert found.finish == expected.finish
    plain = await write(team_on(local, specs))
    assert found.text != plain.text


async def test_a_presence_penalty_counts_the_whole_answer(
    local: LocalEngine, three_models: dict[str, str]
) -> None:
    """Where no token comes again within a request it is the local answer; one that does is lowered
    once more there, which docs/servers.md says."""
    specs = specs_of(three_models)
    options = SamplingOptions(presence_penalty=2.0, logit_bias=PUSHED)
    for size, alike in ((1, True), (4, False)):
        policy = {"sampling": options, "patch_size": size, "max_tokens": 8}
        expected = await write(team_on(local, specs, **policy))
        servers = served_by("vllm", local, three_models)
        async with serving(*servers):
            team = team_on(local, specs, *servers, **policy)
            found = await write(team)
            await team.aclose()
        if alike:
            assert found.text == expected.text
        sent = [body for server in servers for body in server.requests if "logit_bias" in body]
        later = [body for body in sent if body["logit_bias"].get("70", 12.0) < 12.0]
        assert later
        assert all(body["logit_bias"]["70"] == 10.0 for body in later)  # once, not once a patch


def scripted_info(vocabulary: int | None = None, suppressed: Sequence[int] = ()) -> Any:
    engine = ScriptedEngine({"a": []}, suppressed_token_ids=suppressed)
    return replace(asyncio.run(engine.info("a")), vocabulary=vocabulary)


def test_biases_count_the_answer_and_ban_what_may_not_be_written() -> None:
    info = scripted_info(suppressed=(9,))
    end = scripted_codec().tokenizer.eos_token_id
    prompt = [1, 1, 5, 5, 6]
    options = SamplingOptions(
        frequency_penalty=0.5, presence_penalty=1.0, logit_bias=((5, 3.0), (9, 4.0), (8, -2.0))
    )
    asked = Sampling(4, answer_start=2, options=options)
    assert biases(info, prompt, asked) == {"5": 1.0, "6": -1.5, "8": -2.0, "9": -100.0}
    assert biases(info, prompt, Sampling(4, options=options))["5"] == 3.0  # nothing is written yet
    long = Sampling(4, answer_start=0, options=SamplingOptions(frequency_penalty=2.0))
    assert biases(info, [5] * 99, long) == {"5": -100.0, "9": -100.0}  # the least that there is
    never = Sampling(4, stop_token_ids=(7,), options=SamplingOptions(ignore_eos=True))
    assert biases(info, prompt, never) == {"7": -100.0, "9": -100.0, str(end): -100.0}
    small = scripted_info(vocabulary=6, suppressed=(9,))
    assert biases(small, prompt, asked) == {"5": 1.0}  # servers refuse ids that they do not know
    assert biases(scripted_info(), prompt, Sampling(4)) == {}


def test_each_kind_of_server_has_its_options() -> None:
    assert options_of(token_ids=True, verbose=False) == ALL_OPTIONS
    llama = options_of(token_ids=True, verbose=True)
    assert ALL_OPTIONS - llama == {"presence_penalty", "frequency_penalty", "min_tokens"}
    plain = options_of(token_ids=False, verbose=False)
    assert plain == {"logit_bias", "presence_penalty", "frequency_penalty"}


async def test_what_a_server_does_not_have_is_refused(
    local: LocalEngine, three_models: dict[str, str]
) -> None:
    specs = specs_of(three_models)
    for kind, wrong in (
        ("llama", {"presence_penalty": 1.0}),
        ("llama", {"min_tokens": 3}),
        ("text", {"top_k": 5}),
        ("text", {"skip_special_tokens": False}),
    ):
        servers = served_by(kind, local, three_models)
        async with serving(*servers):
            team = team_on(local, specs, *servers, sampling=SamplingOptions(**wrong))
            (name,) = wrong
            with pytest.raises(ConfigError, match=f"{name} is not supported here: what runs m0"):
                await team.agenerate("x")
            await team.aclose()


async def test_a_plain_server_is_sent_what_openai_s_api_has(
    local: LocalEngine, three_models: dict[str, str]
) -> None:
    specs = specs_of(three_models)
    servers = served_by("text", local, three_models)
    options = SamplingOptions(frequency_penalty=1.0, presence_penalty=0.5, logit_bias=PUSHED)
    async with serving(*servers):
        team = team_on(local, specs, *servers, sampling=options).alone("m0")
        team.policy = Policy(patch_size=4, max_tokens=12, temperature=0.0, sampling=options)
        trace = await write(team)
        await team.aclose()
    asked = [body for body in servers[0].requests if body["max_tokens"] == 4]
    assert len(asked) >= 3
    assert all((b["frequency_penalty"], b["presence_penalty"]) == (1.0, 0.5) for b in asked)
    written: Counter[int] = Counter()
    for body, patch in zip(asked, trace.patches, strict=True):
        for token, bias in PUSHED:
            expected = bias - written[token] - 0.5 * (written[token] > 0)
            assert body["logit_bias"][str(token)] == pytest.approx(expected)
        written.update(patch.token_ids)


async def test_a_stop_token_that_llama_cpp_does_not_know_ends_the_patch(tmp_path: Path) -> None:
    """It writes on, so its stream is left."""
    codec = scripted_codec()
    codec.tokenizer.save_pretrained(tmp_path)
    (letter,) = codec.encode("c")
    engine = ScriptedEngine({"a": lambda prompt, sampling: "abcdefgh"})
    server = LlamaServer(engine, ["a"])
    spec = ModelSpec(str(tmp_path), prompt="{text}")
    async with serving(server):
        candidates = [Candidate("a", spec, Endpoint((server.url,)))]
        http = HttpEngine(candidates, EngineConfig(kind="http", retries=1), first_cooldown=0.01)
        policy = Policy(
            patch_size=8, max_tokens=8, sampling=SamplingOptions(stop_token_ids=(letter,))
        )
        trace = await Team(candidates, http, FixedSwitcher([0]), policy).agenerate("x")
        await http.close()
    assert (trace.text, trace.finish, trace.error) == ("ab", "stop", None)
