"""What servers say, read as what they mean: words for the end of a reply, ids that are missing, and
log-probabilities that are no numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import inf, log, nan
from typing import Any

import httpx
import pytest

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.config.team_config import EngineConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.engines.scripted import scripted_codec
from taketurns.errors import ConfigError, UnavailableError
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Completion, Endpoint, Sampling, Token

Chunk = dict[str, Any]
A, B, C = scripted_codec().encode("abc")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("spelling")
    scripted_codec().tokenizer.save_pretrained(folder)
    return ModelSpec(str(folder), prompt="{text}")


def piece(text: str = "", finish: Any = None, **more: Any) -> Chunk:
    return {"choices": [{"text": text, "finish_reason": finish, **more}]}


class Servers:
    """They answer the requests for `model` with its `replies`, one after another, each a list of
    chunks; those that find out what a server can do are answered as vLLM does if it has `ids`."""

    def __init__(self, ids: bool, **replies: Sequence[list[Chunk]]) -> None:
        self.ids = ids
        self.probabilities = (0.2, 0.1, 0.3)  # of the first tokens that are asked about
        self.left = {model: list(found) for model, found in replies.items()}

    def reply(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            listed = [{"id": name, "max_model_len": 99} for name in self.left]
            found = request.url.path == "/v1/models"
            return httpx.Response(200 if found else 404, json={"data": listed})
        if request.url.path != "/v1/completions":
            return httpx.Response(404)
        asked = json.loads(request.content)
        if asked["max_tokens"] == 1 and len(asked["prompt"]) == len("1 + 1 = 2"):
            wanted = zip(asked.get("logprob_token_ids", ()), self.probabilities, strict=False)
            tops = [{f"token_id:{i}": log(p) for i, p in wanted}]
            ids: dict[str, Any] = {"token_ids": [A]} if self.ids else {}
            return httpx.Response(
                200, json=piece("a", "length", logprobs={"top_logprobs": tops}, **ids)
            )
        chunks = self.left[asked["model"]].pop(0)
        if not asked.get("stream"):
            return httpx.Response(200, text=json.dumps(chunks[-1]))
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        return httpx.Response(200, text="".join(lines) + "data: [DONE]\n\n")

    def engine(self, spec: ModelSpec) -> HttpEngine:
        models = [Candidate(name, spec, Endpoint(("http://one",))) for name in self.left]
        engine = HttpEngine(models, EngineConfig(kind="http", retries=1), first_cooldown=0.0)
        engine.connect = lambda: httpx.MockTransport(self.reply)
        return engine


async def ask(spec: ModelSpec, servers: Servers, tokens: int = 3, **options: Any) -> Completion:
    engine = servers.engine(spec)
    watch: Callable[[Token], None] | None = options.pop("watch", lambda token: None)
    try:
        async with engine.session(0) as session:
            return await session.generate("a", [A], Sampling(tokens, 0.0, **options), watch)
    finally:
        await engine.close()


@pytest.mark.parametrize("goes_on", [None, ""])
@pytest.mark.parametrize("ids", [True, False])
async def test_a_reply_goes_on_until_it_says_why_it_ended(
    spec: ModelSpec, goes_on: str | None, ids: bool
) -> None:
    """Some servers send "" where others send null, or a first chunk without any choice."""

    def part(text: str, token: int, finish: str | None) -> Chunk:
        return piece(text, finish, **({"token_ids": [token]} if ids else {}))

    chunks = [{"choices": [], "prompt_filter_results": []}, part("a", A, goes_on),
              part("b", B, goes_on), part("c", C, "length")]  # fmt: skip
    done = await ask(spec, Servers(ids, a=[chunks]))
    assert (done.text or scripted_codec().decode(done.token_ids)) == "abc"
    assert done.finish == "length"


@pytest.mark.parametrize("word", ["stop", "eos_token", "stop_sequence"])
async def test_words_for_an_end(spec: ModelSpec, word: str) -> None:
    chunks = [piece("a", token_ids=[A]), piece("", word, token_ids=[])]
    done = await ask(spec, Servers(True, a=[chunks]))
    assert (done.token_ids, done.finish) == ((A,), "stop")


@pytest.mark.parametrize("word", ["abort", "error", "tool_calls", {"type": "abort"}])
async def test_a_reply_that_was_given_up_is_asked_for_again(spec: ModelSpec, word: Any) -> None:
    """Where it broke off: what was given out by then stands."""
    broken = [piece("a", token_ids=[A]), piece("", word, token_ids=[])]
    rest = [piece("b", token_ids=[B]), piece("c", "length", token_ids=[C])]
    seen: list[Token] = []
    done = await ask(spec, Servers(True, a=[broken, rest]), watch=seen.append)
    assert done.token_ids == tuple(token.id for token in seen if token.id is not None) == (A, B, C)
    assert done.finish == "length"


async def test_what_a_content_filter_withholds_fails_the_candidate(spec: ModelSpec) -> None:
    """At once: another try would fare no better. The next candidate stands in."""
    filtered = [piece("a", token_ids=[A]), piece("", "content_filter", token_ids=[])]
    said = "a: the server's content filter withheld what the model wrote"
    with pytest.raises(UnavailableError, match=said):
        await ask(spec, Servers(True, a=[filtered]))
    servers = Servers(True, a=[filtered[1:]], b=[[piece("b", "stop", token_ids=[B])]])
    engine = servers.engine(spec)
    models = [Candidate(name, spec) for name in ("a", "b")]
    team = Team(models, engine, FixedSwitcher([0, 1]), Policy(patch_size=4, temperature=0.0))
    async with team:
        trace = await team.agenerate("a")
    assert trace.text == "b"
    assert [(patch.speaker, patch.reason) for patch in trace.patches] == [(1, "fallback")]


@pytest.mark.parametrize("watch", [None, lambda token: None])
async def test_text_without_its_ids_is_no_empty_answer(spec: ModelSpec, watch: Any) -> None:
    """From a server that gave ids when it was asked what it can do."""
    bare = [piece("abc", "stop")]
    again = [piece("abc", "length", token_ids=[A, B, C])]
    done = await ask(spec, Servers(True, a=[bare, again]), watch=watch)
    assert done.token_ids == (A, B, C)
    with pytest.raises(UnavailableError, match="has text without token ids"):
        await ask(spec, Servers(True, a=[bare, bare]), watch=watch)


@pytest.mark.parametrize("value", [nan, inf, 3.5])
async def test_a_score_that_is_no_number_is_a_fault(spec: ModelSpec, value: float) -> None:
    def reply(value: float) -> list[Chunk]:
        tops = [{f"token_id:{A}": -1.0, f"token_id:{B}": value}]
        return [piece("a", "length", token_ids=[A], logprobs={"top_logprobs": tops})]

    engine = Servers(True, a=[reply(value), reply(-2.0)]).engine(spec)
    async with engine.session(0) as session:
        assert await session.score("a", [C], [A, B]) == [-1.0, -2.0]
    await engine.close()
    engine = Servers(True, a=[reply(value), reply(value)]).engine(spec)
    async with engine.session(0) as session:
        with pytest.raises(UnavailableError, match=f"has {value} as a log-probability"):
            await session.score("a", [C], [A, B])
    await engine.close()


@pytest.mark.parametrize("never", [-inf, -3.4e38, -9999.0])
async def test_scores_may_be_impossible_but_not_all_of_them(spec: ModelSpec, never: float) -> None:
    def reply(*values: float) -> list[Chunk]:
        tops = [{f"token_id:{i}": value for i, value in zip((A, B), values, strict=True)}]
        return [piece("a", "length", token_ids=[A], logprobs={"top_logprobs": tops})]

    engine = Servers(True, a=[reply(never, never), reply(-1.0, never)]).engine(spec)
    async with engine.session(0) as session:
        assert await session.score("a", [C], [A, B]) == [-1.0, -inf]
    assert engine.counters("a").faults.total() == 1
    await engine.close()


@pytest.mark.parametrize("own", [True, False])
async def test_a_token_weighed_by_no_number_is_a_fault(spec: ModelSpec, own: bool) -> None:
    def reply(value: float) -> list[Chunk]:
        logprobs = {"token_logprobs": [value if own else -1.0],
                    "top_logprobs": [{f"token_id:{A}": -1.0 if own else value}]}  # fmt: skip
        return [piece("a", "length", token_ids=[A], logprobs=logprobs)]

    done = await ask(spec, Servers(True, a=[reply(nan), reply(-0.5)]), tokens=1, logprobs=1)
    assert done.logprobs == (-0.5 if own else -1.0,)


async def test_a_server_whose_model_has_no_weights_is_refused(spec: ModelSpec) -> None:
    """Fault: vLLM 0.32 serves a model whose embeddings it did not find with all logits equal, and
    each answer was empty."""
    servers = Servers(True, a=[[piece("a", "length", token_ids=[A])]])
    servers.probabilities = (1 / len(scripted_codec().tokenizer),) * 3
    with pytest.raises(ConfigError, match="every token the same probability"):
        await ask(spec, servers)
