"""What a client of the OpenAI API gets: the real client, over a real socket."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import AsyncOpenAI, BadRequestError

from taketurns import Candidate, ModelSpec, Team
from taketurns.config.policy import Policy
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.scripted import scripted_codec
from taketurns.switchers.simple import FixedSwitcher

from .conftest import QUESTION, Running, Start, forever, scripted


@pytest.fixture(scope="module")
def offline() -> Any:
    with Team.load("pocket") as team:
        yield team


def ask(server: Running, **more: Any) -> Any:
    asked = {"model": "team", "messages": [{"role": "user", "content": QUESTION}]}
    return server.client().chat.completions.create(**asked | more)


def patches(choice: Any) -> list[dict[str, Any]]:
    return choice.model_extra["taketurns"]["patches"]


def test_the_team_comes_first_and_then_its_candidates(pocket: Running) -> None:
    models = pocket.client().models.list().data
    assert [model.id for model in models] == ["team", "pretrained", "sft", "aligned"]
    about = models[0].model_extra["taketurns"]
    assert about["candidates"] == ["pretrained", "sft", "aligned"]
    assert about["policy"]["patch_size"] == 16
    assert pocket.client().models.retrieve("sft").id == "sft"


def test_a_name_with_a_slash_can_be_looked_up(start: Start) -> None:
    client = start(scripted({"org/a": forever("a"), "b": forever("b")})).client()
    assert client.models.retrieve("org/a").id == "org/a"
    with pytest.raises(openai.NotFoundError, match="no model 'org/c'"):
        client.models.retrieve("org/c")


@pytest.mark.parametrize("model", ["team", "pretrained", "aligned"])
def test_an_answer_is_the_offline_one_for_its_seed(
    pocket: Running, offline: Team, model: str
) -> None:
    team = offline if model == "team" else offline.alone(model)
    for seed in (1, 2, 3):
        answer = ask(pocket, model=model, seed=seed)
        trace = team.generate(QUESTION, seed=seed)
        choice = answer.choices[0]
        assert choice.message.content == trace.text
        assert choice.finish_reason == trace.finish
        assert answer.usage.completion_tokens == trace.tokens
        assert answer.usage.prompt_tokens > 5
        if model == "team":
            written = [(patch.speaker, patch.text) for patch in trace.patches]
            assert [(one["speaker"], one["text"]) for one in patches(choice)] == written


def test_a_stream_is_the_same_answer_token_by_token(pocket: Running) -> None:
    whole = ask(pocket, seed=2, extra_body={"return_token_ids": True})
    stream = ask(
        pocket,
        seed=2,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"return_token_ids": True},
    )
    chunks = list(stream)
    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(choice.delta.content or "" for choice in told)
    ids = [i for choice in told for i in choice.model_extra["token_ids"]]
    about = [
        choice.model_extra["taketurns"] for choice in told if "taketurns" in choice.model_extra
    ]
    content = whole.choices[0].message.content
    assert text == content
    assert ids == whole.choices[0].model_extra["token_ids"]
    assert chunks[1].model_extra["prompt_token_ids"] == whole.model_extra["prompt_token_ids"]
    # Token by token: as many pieces of text as there are tokens.
    assert sum(bool(choice.delta.content) for choice in told) == whole.usage.completion_tokens
    assert chunks[-1].usage == whole.usage
    assert told[-1].finish_reason == whole.choices[0].finish_reason
    streamed = [one["patch"] for one in about if "patch" in one]
    assert [one["text"] for one in streamed] == [one["text"] for one in patches(whole.choices[0])]
    for one in streamed:
        assert content[slice(*one["span"])] == one["text"]
        assert one["probabilities"] is None or sum(one["probabilities"]) == pytest.approx(1)


async def test_the_asynchronous_client_streams_many_at_once(pocket: Running) -> None:
    import asyncio

    async with AsyncOpenAI(base_url=f"{pocket.url}/v1", api_key="none", max_retries=0) as client:

        async def one(seed: int) -> str:
            stream = await client.chat.completions.create(
                model="team",
                messages=[{"role": "user", "content": QUESTION}],
                seed=seed,
                stream=True,
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        together = await asyncio.gather(*(one(seed) for seed in range(8)))
        assert together == [await one(seed) for seed in range(8)]


def test_choices_are_what_generate_makes_of_a_list(pocket: Running, offline: Team) -> None:
    answer = ask(pocket, n=3, seed=7, temperature=1.5)
    policy = Policy(patch_size=16, max_tokens=200, temperature=1.5)
    traces = offline.generate([QUESTION] * 3, seed=7, policy=policy)
    assert [choice.message.content for choice in answer.choices] == [t.text for t in traces]
    assert answer.usage.completion_tokens == sum(trace.tokens for trace in traces)
    alone = ask(pocket, seed=7, temperature=1.5)
    assert alone.usage.prompt_tokens == answer.usage.prompt_tokens


def test_without_a_seed_one_is_drawn_and_told(pocket: Running) -> None:
    first = ask(pocket, temperature=1.9)
    seed = first.choices[0].model_extra["taketurns"]["seed"]
    again = ask(pocket, temperature=1.9, seed=seed)
    assert again.choices[0].message.content == first.choices[0].message.content


def test_a_conversation_is_continued(start: Start) -> None:
    team = scripted({"a": lambda prompt, sampling: f"<{prompt}>", "b": []}, FixedSwitcher([0]))
    server = start(team)
    turns = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}],
        },
        {"role": "assistant", "content": "4", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Sure?"},
    ]
    answer = ask(
        server, messages=turns, max_tokens=200, extra_body={"taketurns": {"patch_size": 200}}
    )
    expected = "<System: Be brief.\nUser: 2+2?\nAssistant: 4\nUser: Sure?\nAssistant:>"
    assert answer.choices[0].message.content == expected


def test_characters_and_stop_strings_are_held_back_until_they_are_sure(start: Start) -> None:
    codec = scripted_codec()
    said = codec.encode("é€ STO 😀 STOP it")

    def say(prompt: str, sampling: Any) -> list[int]:
        return said

    server = start(scripted({"a": say, "b": []}, FixedSwitcher([0])))
    more = {"stop": ["STOP"], "max_tokens": 100, "extra_body": {"taketurns": {"patch_size": 100}}}
    whole = ask(server, **more).choices[0]
    assert whole.message.content == "é€ STO 😀 "
    assert whole.finish_reason == "stop"
    pieces = [chunk.choices[0].delta.content for chunk in ask(server, stream=True, **more)]
    assert [piece for piece in pieces if piece] == ["é", "€", " ", "STO ", "😀", " "]
    ids = ask(server, **more | {"extra_body": more["extra_body"] | {"return_token_ids": True}})
    assert ids.choices[0].model_extra["token_ids"] == codec.encode("é€ STO 😀 STOP")


def test_log_probabilities_are_the_model_s_own(pocket: Running) -> None:
    whole = ask(pocket, seed=1, logprobs=True, top_logprobs=3, temperature=0).choices[0]
    assert "".join(one.token for one in whole.logprobs.content) == whole.message.content
    for one in whole.logprobs.content:
        assert one.logprob <= 0
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].token == one.token  # greedy takes the most probable
        assert one.top_logprobs[0].logprob == pytest.approx(one.logprob)
        assert bytes(one.bytes).decode() == one.token
    stream = ask(pocket, seed=1, logprobs=True, top_logprobs=3, temperature=0, stream=True)
    streamed = [
        one
        for chunk in stream
        if chunk.choices[0].logprobs
        for one in chunk.choices[0].logprobs.content
    ]
    assert streamed == whole.logprobs.content


def test_completions_continue_the_text_as_it_stands(pocket: Running) -> None:
    client = pocket.client()
    asked = {"model": "pretrained", "temperature": 0, "max_tokens": 12}
    bare = client.completions.create(prompt=f"question: {QUESTION} answer:", **asked)
    chat = ask(pocket, **asked)
    assert bare.choices[0].text == chat.choices[0].message.content
    both = client.completions.create(prompt=["rebol fonul", "question:"], n=2, seed=3, **asked)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text != both.choices[2].text
    with pocket.http() as http:
        asked_for = {"model": "pretrained", "prompt": "rebol fonul"}
        ids = http.post("/tokenize", json=asked_for).json()["tokens"]
    from_ids = client.completions.create(prompt=ids, logprobs=2, **asked).choices[0]
    assert from_ids.text == both.choices[0].text
    assert "".join(from_ids.logprobs.tokens) == from_ids.text
    assert from_ids.logprobs.text_offset[0] == 0
    assert all(len(top) == 2 for top in from_ids.logprobs.top_logprobs)


def test_prompt_ids_are_the_choice_s_where_each_has_its_own(pocket: Running) -> None:
    """As vLLM has it, streamed or not."""
    client = pocket.client()
    asked = {"model": "pretrained", "prompt": ["rebol fonul", "question:"], "max_tokens": 4}
    with_ids = {"extra_body": {"return_token_ids": True}}
    whole = client.completions.create(**asked, **with_ids)
    ids = {one.index: one.model_extra["prompt_token_ids"] for one in whole.choices}
    assert len(set(map(tuple, ids.values()))) == 2
    streamed = {}
    for chunk in client.completions.create(**asked, **with_ids, stream=True):
        assert "prompt_token_ids" not in chunk.model_extra
        for one in chunk.choices:
            if "prompt_token_ids" in one.model_extra:
                assert one.index not in streamed
                streamed[one.index] = one.model_extra["prompt_token_ids"]
    assert streamed == ids
    chat = ask(pocket, stream=True, max_tokens=4, **with_ids)
    assert sum("prompt_token_ids" in chunk.model_extra for chunk in chat) == 1


def test_a_request_may_change_who_takes_turns_and_how(pocket: Running) -> None:
    def speakers(**turns: Any) -> list[str]:
        answer = ask(pocket, seed=4, max_tokens=12, temperature=1, extra_body={"taketurns": turns})
        return [one["name"] for one in patches(answer.choices[0])]

    assert speakers(patch_size=2, switcher=["sft", 2])[:3] == ["sft", "aligned", "sft"]
    assert speakers(patch_size=4, opening="aligned")[0] == "aligned"
    closed = speakers(patch_size=4, switcher=["pretrained"], closing="aligned")
    assert set(closed[:-1]) <= {"pretrained"}
    answer = ask(pocket, seed=4, extra_body={"taketurns": {"switcher": "random"}})
    assert patches(answer.choices[0])[0]["probabilities"] == pytest.approx([1 / 3] * 3)


def test_an_answer_that_reaches_its_budget_says_so(pocket: Running) -> None:
    answer = ask(pocket, max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


PICTURE = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}],
}


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        ({"extra_body": {"temprature": 1}}, "temprature", "did you mean 'temperature'"),
        ({"extra_body": {"taketurns": {"patchsize": 1}}}, "taketurns.patchsize", "'patch_size'"),
        ({"extra_body": {"taketurns": {"opening": "nobody"}}}, "taketurns.opening", "pretrained"),
        ({"extra_body": {"taketurns": {"closing_cue": "So"}}}, "taketurns", "closing speaker"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"frequency_penalty": 3}, "frequency_penalty", "should be less than or equal to 2"),
        ({"n": 99}, "n", "16 choices, not 99"),
        ({"max_tokens": 99999}, "max_tokens", "writes up to 4096"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user", "content": "x " * 3000}]}, None, "its context has 2048"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "is required"),
        ({"stop": 5}, "stop", "should be a valid string or should be a valid list"),
        ({"extra_body": {"taketurns": {"switcher": "best"}}}, "taketurns.switcher", "'random'"),
        ({"messages": [PICTURE]}, "messages.0.content.0.image_url", "is not supported here"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_field(
    pocket: Running, more: dict[str, Any], param: str | None, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(pocket, **more)
    assert caught.value.param == param
    assert says in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(pocket: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="the models are team, pretrained") as caught:
        ask(pocket, model="gpt-4")
    assert caught.value.code == "model_not_found"


def test_what_is_no_request_is_refused(pocket: Running) -> None:
    with pocket.http() as http:
        address = "/v1/chat/completions"
        as_json = {"content-type": "application/json"}
        for body, headers in (
            (b"{", as_json),
            (b"[]", as_json),
            (b"", as_json),
            (b'{"messages": []}', {"content-type": "text/plain"}),
            (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', as_json),
            (b'{"messages": [{"role": "user", "content": "x", "\\ud800": 1}]}', as_json),
            (b'{"temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', as_json),
            (b"[" * 100_000, as_json),
        ):
            reply = http.post(address, content=body, headers=headers)
            assert reply.status_code == 400, body
            assert reply.json()["error"]["message"]
        assert http.get(address).status_code == 405


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/chat/completions", "/v1/v1/completions", "/nowhere", "/%ff" * 99]
)
def test_an_unknown_address_is_told_the_known_ones(pocket: Running, path: str) -> None:
    with pocket.http() as http:
        reply = http.post(path, json={})
    assert reply.status_code == 404
    message = reply.json()["error"]["message"]
    assert "answers are at /v1/chat/completions" in message
    assert len(message) < 250


def test_tokens_there_and_back(pocket: Running) -> None:
    with pocket.http() as http:
        asked = {"model": "sft", "messages": [{"role": "user", "content": QUESTION}]}
        read = http.post("/tokenize", json=asked | {"return_token_strs": True}).json()
        assert read["count"] == len(read["tokens"]) == len(read["token_strs"])
        assert read["max_model_len"] == 2048
        text = http.post("/detokenize", json={"model": "sft", "tokens": read["tokens"]}).json()
        assert QUESTION in text["prompt"]
        answer = ask(pocket, model="sft", extra_body={"return_token_ids": True})
        assert answer.model_extra["prompt_token_ids"] == read["tokens"]
        bad = http.post("/detokenize", json={"model": "sft", "tokens": [10**6]})
        assert bad.status_code == 400


def test_ids_of_unlike_tokenizers_are_never_joined(
    start: Start, make_model: Any, other_tokenizer: Any
) -> None:
    """Fault: token ids of two vocabularies came as one list."""
    models = {"one": make_model(0), "other": make_model(1, tokenizer=other_tokenizer)}
    specs = {name: ModelSpec(str(path), prompt="{text}") for name, path in models.items()}
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    policy = Policy(patch_size=3, max_tokens=9)
    team = Team(candidates, LocalEngine(specs), FixedSwitcher([0, 1]), policy)
    server = start(team)
    with_ids = {"extra_body": {"return_token_ids": True}}
    for stream in (False, True):
        with pytest.raises(BadRequestError, match="candidates' tokenizers differ"):
            ask(server, stream=stream, **with_ids)
    alone = ask(server, model="other", **with_ids).choices[0]
    assert len(alone.model_extra["token_ids"]) == 9
    tokens = sum(
        chunk.choices[0].model_extra["taketurns"].get("tokens", 0)
        for chunk in ask(server, stream=True)
        if "speaker" in (chunk.choices[0].model_extra.get("taketurns") or {})
    )
    assert tokens == 9


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_shows_events_and_done(pocket: Running) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "seed": 1}
    done = subprocess.run(
        ["curl", "-sN", f"{pocket.url}/v1/chat/completions", "--json", json.dumps(body)],
        capture_output=True,
        text=True,
        check=True,
    )
    events = [line for line in done.stdout.split("\n\n") if line]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == ask(pocket, seed=1).choices[0].message.content


def test_keys_are_asked_for_everywhere_but_at_the_doors(start: Start) -> None:
    server = start(scripted({"a": forever("a"), "b": forever("b")}), api_keys=("s3cret", "other"))
    with pytest.raises(openai.AuthenticationError, match="needs an API key"):
        ask(server)
    for key in ("s3cret", "other"):
        assert server.client(api_key=key).models.list().data
    with server.http() as http:
        for path in ("/health", "/health/ready", "/version", "/", "/page/page.js"):
            assert http.get(path).status_code == 200, path
        for path in ("/metrics", "/v1/models", "/openapi.json", "/nowhere"):
            assert http.get(path).status_code == 401, path
            for wrong in ("s3cre", "s3cret2", "Bearer", "é"):
                header = {"authorization": f"Bearer {wrong}".encode()}
                assert http.get(path, headers=header).status_code == 401
        known = {"authorization": "Bearer s3cret"}
        assert http.get("/metrics", headers=known).status_code == 200


def test_metrics_can_be_opened(start: Start) -> None:
    team = scripted({"a": forever("a"), "b": forever("b")})
    with start(team, api_keys=("k",), open_metrics=True).http() as http:
        assert http.get("/metrics").status_code == 200


def test_a_body_too_large_is_refused_unread(start: Start) -> None:
    server = start(scripted({"a": forever("a"), "b": forever("b")}), max_body=1000)
    with server.http() as http:
        long = json.dumps({"messages": [{"role": "user", "content": "x" * 1000}]})
        reply = http.post("/v1/chat/completions", content=long)
        assert reply.status_code == 413

        def pieces() -> Any:
            for _ in range(100):
                yield b" " * 100

        headers = {"content-type": "application/json"}
        reply = http.post("/v1/chat/completions", content=pieces(), headers=headers)
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("refusal", ["body", "key"])
def test_a_refusal_reaches_a_client_that_is_still_sending(start: Start, refusal: str) -> None:
    team = scripted({"a": forever("a"), "b": forever("b")})
    server = start(team, **{"body": {"max_body": 1000}, "key": {"api_keys": ("k",)}}[refusal])
    address = urlsplit(server.url)
    asks = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head = f"{asks}content-type: application/json\r\ncontent-length: 2000\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=20) as client:
        client.sendall(head.encode())
        reply = client.recv(1 << 16)  # the server has refused, the client does not look at it yet
        for _ in range(20):
            client.sendall(b" " * 100)
            time.sleep(0.01)
        while more := client.recv(1 << 16):
            reply += more
    status = int(reply.split()[1])
    assert (status, b'"error"' in reply) == ({"body": 413, "key": 401}[refusal], True)


def test_other_sites_pages_may_ask_only_where_they_are_named(start: Start) -> None:
    team = scripted({"a": forever("a"), "b": forever("b")})
    asks = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with start(team).http() as http:
        assert "access-control-allow-origin" not in http.options("/v1/models", headers=asks).headers
    with start(team, cors=("https://a.example",), api_keys=("k",)).http() as http:
        allowed = http.options("/v1/models", headers=asks).headers
        assert allowed["access-control-allow-origin"] == "https://a.example"
        other = http.options("/v1/models", headers=asks | {"origin": "https://b.example"}).headers
        assert "access-control-allow-origin" not in other
        sends = {"access-control-request-headers": "authorization,content-type,x-stainless-lang"}
        assert http.options("/v1/chat/completions", headers=asks | sends).status_code == 200
        shown = http.get("/v1/models", headers={"origin": "https://a.example"}).headers
        for name in ("retry-after", "x-request-id", "x-should-retry"):
            assert name in shown["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("rebound.example", 403),
        ("rebound.example:8000", 403),
        ("127.0.0.1.rebound.example", 403),
        ("localhost.rebound.example:80", 403),
        ("known.example:8000", 200),
        ("LOCALHOST:8000", 200),
        ("team.localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
    ],
)
def test_a_foreign_name_is_refused_where_nobody_needs_a_key(
    start: Start, host: str, status: int
) -> None:
    """Or a page that rebinds its name to this machine could read every answer."""
    server = start(scripted({"a": forever("a")}), allowed_hosts=("Known.example",))
    with server.http(headers={"host": host}) as http:
        for path in ("/", "/v1/models", "/metrics"):
            reply = http.get(path)
            assert reply.status_code == status
            if status == 403:
                assert reply.json()["error"]["code"] == "unknown_host"


def test_with_a_key_any_name_will_do(start: Start) -> None:
    server = start(scripted({"a": forever("a")}), api_keys=("k",))
    headers = {"host": "team.example", "authorization": "Bearer k"}
    with server.http(headers=headers) as http:
        assert http.get("/v1/models").status_code == 200


def test_a_prompt_too_long_has_a_code_of_its_own(pocket: Running) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(pocket, messages=[{"role": "user", "content": "x " * 3000}])
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.body["message"].startswith("the prompt has ")


def test_prompts_may_be_kept_short(start: Start) -> None:
    server = start(scripted({"a": forever("a"), "b": forever("b")}), max_prompt_tokens=8)
    assert ask(server, messages=[{"role": "user", "content": "short?"}]).choices
    with pytest.raises(
        openai.BadRequestError, match="has 9 tokens, but this server accepts at most 8"
    ):
        ask(server, messages=[{"role": "user", "content": "too long?"}])
