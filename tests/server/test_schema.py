"""Whatever is sent, the answer is an answer or says what is wrong; never a failure of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from taketurns.config.policy import Policy
from taketurns.server.schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from taketurns.server.validation import validation_error

from .conftest import Running, forever, running, scripted

ANSWERS = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    team = scripted(
        {"a": forever("é"), "b": forever("b")}, policy=Policy(patch_size=3, max_tokens=8)
    )
    with running(team, max_tokens=40, max_choices=4) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_of_the_schema_makes_it_fail(server: Running, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checked = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and operation.method in ("get", "delete"):
            continue  # there is nothing to get wrong

        @given(operation.as_strategy(generation_mode=mode))
        @settings(max_examples=10, suppress_health_check=SLOW, deadline=None, database=None)
        def check(case: Any) -> None:
            response = case.call()
            case.validate_response(response, checks=[not_a_server_error])
            if response.status_code >= 400:
                told = response.json()
                assert told["error"]["message"]
                assert told["error"].keys() == {"message", "type", "param", "code"}
                assert told.get("type") == (
                    "error" if case.path.startswith("/v1/messages") else None
                )

        check()
        checked.add(operation.path)
    assert checked >= ANSWERS


def text(max_size: int) -> st.SearchStrategy[str]:
    """JSON can spell half of a surrogate pair, and st.text() never does."""
    return st.text(max_size=max_size) | st.text("a\ud800\udc00", max_size=max_size)


NAMES = st.sampled_from(["a", "b", "team", "nobody", 0, 1, 2, None])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text(8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text(5), inner),
    max_leaves=5,
)
TURNS = st.fixed_dictionaries(
    {},
    optional={
        "patch_size": st.integers(-1, 50),
        "top_p": st.floats(-0.5, 1.5),
        "greedy_switcher": st.booleans(),
        "opening": NAMES,
        "closing": NAMES,
        "closing_on_end": st.booleans(),
        "closing_cue": st.text(max_size=5),
        "switcher": st.sampled_from(["team", "random"]) | st.lists(NAMES, max_size=3),
    },
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
            "content": st.text(max_size=20),
        }
    ),
    max_size=3,
)
FIELDS = {
    "model": st.sampled_from(["team", "a", "b", "nobody"]),
    "max_tokens": st.integers(-1, 60),
    "max_completion_tokens": st.integers(-1, 60),
    "temperature": st.floats(-1, 3),
    "top_p": st.floats(-0.5, 1.5),
    "n": st.integers(0, 6),
    "stop": st.text(max_size=4) | st.lists(st.text(max_size=4), max_size=4),
    "seed": st.integers(-(1 << 70), 1 << 70),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(-1, 25),
    "user": text(5),
    "return_token_ids": st.booleans(),
    "taketurns": TURNS,
}


@given(
    st.fixed_dictionaries({"messages": MESSAGES}, optional=FIELDS),
    st.dictionaries(st.sampled_from(["messages", *FIELDS]) | text(5), ANYTHING, max_size=1),
)
@settings(max_examples=100, suppress_health_check=SLOW, deadline=None)
def test_any_fields_make_an_answer_or_a_sentence(
    http: httpx.Client, fields: dict[str, Any], spoiled: dict[str, Any]
) -> None:
    asked = fields | spoiled
    body = json.dumps(asked).encode()  # half surrogates and NaN are spelled out, as clients do
    headers = {"content-type": "application/json"}
    reply = http.post("/v1/chat/completions", content=body, headers=headers)
    assert reply.status_code in (200, 400, 404), reply.text
    if reply.status_code != 200:
        assert reply.json()["error"]["message"]
        return
    wanted = asked.get("max_completion_tokens") or asked.get("max_tokens") or 8
    if asked.get("stream"):
        assert reply.text.endswith("data: [DONE]\n\n")
        return
    choices = reply.json()["choices"]
    assert len(choices) == (asked.get("n") or 1)
    for choice in choices:
        patches = choice["taketurns"]["patches"]
        text = choice["message"]["content"]
        assert "".join(patch["text"] for patch in patches) == text
        assert sum(p["tokens"] for p in patches if p["speaker"] is not None) <= wanted
        stops = asked.get("stop") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            assert stop not in text or any(p["reason"] == "forced" for p in patches)


MESSAGE = {"role": "user", "content": "Q?"}
MANY = 2000
KINDS: dict[str, type[BaseModel]] = {
    "chat/completions": ChatRequest,
    "completions": CompletionRequest,
    "tokenize": TokenizeRequest,
    "detokenize": DetokenizeRequest,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [0] * MANY}),
        ("chat/completions", {"messages": [{}] * MANY}),
        ("chat/completions", {"messages": [{"role": "user", "content": [{}] * MANY}]}),
        ("chat/completions", {"messages": [MESSAGE], "stop": [""] * MANY}),
        ("chat/completions", {"messages": [MESSAGE], "tools": [{}] * MANY}),
        ("chat/completions", {"messages": [MESSAGE], "modalities": [0] * MANY}),
        (
            "chat/completions",
            {"messages": [MESSAGE], "logit_bias": {str(i): "x" for i in range(MANY)}},
        ),
        *(
            ("chat/completions", {"messages": [MESSAGE], "taketurns": turns})
            for turns in (
                {"switcher": [[]] * MANY},
                {"guard": {"words": [""] * MANY}},
                {"max_share": {str(i): 2 for i in range(MANY)}},
            )
        ),
        ("completions", {"prompt": [[]] * MANY}),
        ("completions", {"prompt": [[-1]] * MANY}),
        ("completions", {"prompt": [[-1] * MANY]}),
        ("completions", {"prompt": [-1] * MANY}),
        ("completions", {"prompt": [{}] * MANY}),
        ("tokenize", {"messages": [0] * MANY}),
        ("detokenize", {"tokens": [-1] * MANY}),
    ],
)
def test_a_thousand_mistakes_cost_as_much_as_one(path: str, body: dict[str, Any]) -> None:
    """Half a million of them, which a body has room for, would stop every stream for seconds."""
    with pytest.raises(ValidationError) as caught:
        KINDS[path].model_validate(body)
    assert caught.value.error_count() <= 6
    told = validation_error(caught.value.errors(), body)
    assert told.status_code == 400
    assert told.param is not None


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (ChatRequest, {"messages": [MESSAGE] * 40_000}, "messages"),
        (
            ChatRequest,
            {"messages": [MESSAGE | {"content": [{"type": "text", "text": "x"}] * 40_000}]},
            "messages.0.content",
        ),
        (CompletionRequest, {"prompt": [[1]] * 40_000}, "prompt.0"),  # which might have been a text
    ],
)
def test_there_may_not_be_more_objects_than_anyone_needs(
    kind: type[BaseModel], body: dict[str, Any], param: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert validation_error(caught.value.errors(), body).param == param
