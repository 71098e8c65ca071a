"""Anthropic's Messages API, as its clients speak it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from taketurns import Policy, Team
from taketurns.errors import EngineError
from taketurns.switchers.simple import FixedSwitcher

from ..tool_templates import HERMES
from .conftest import Running, Start, pair, running, scripted
from .test_tools import CALL, SCHEMA, local_team, says

TOOLS = [{"name": "weather", "description": "the weather", "input_schema": SCHEMA}]
ASK: dict[str, Any] = {
    "model": "team",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Does it rain?"}],
}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"town": "Lyon"}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "wet"}


def send(server: Running, path: str = "", **fields: Any) -> httpx.Response:
    with server.http() as http:
        return http.post(f"/v1/messages{path}", json={**ASK, **fields})


def answer(server: Running, **fields: Any) -> dict[str, Any]:
    reply = send(server, **fields)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def events(server: Running, **fields: Any) -> list[dict[str, Any]]:
    reply = send(server, stream=True, **fields)
    assert reply.status_code == 200, reply.text
    told = []
    for event in reply.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def put_together(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of a stream, as clients put it together."""
    message = told[0]["message"]
    assert told[0]["type"] == "message_start"
    assert told[-1]["type"] == "message_stop"
    under_way: dict[str, Any] | None = None
    for event in told[1:-1]:
        kind = event["type"]
        if kind == "content_block_start":
            assert under_way is None
            assert event["index"] == len(message["content"])
            under_way = {**event["content_block"], "json": ""}
        elif kind == "content_block_delta":
            assert under_way is not None
            under_way["text"] = under_way.get("text", "") + event["delta"].get("text", "")
            under_way["json"] += event["delta"].get("partial_json", "")
        elif kind == "content_block_stop":
            assert under_way is not None
            given, text = under_way.pop("json"), under_way.pop("text")
            own = {"text": text} if under_way["type"] == "text" else {"input": json.loads(given)}
            message["content"].append(under_way | own)
            under_way = None
        else:
            assert kind == "message_delta"
            message |= event["delta"] | {"usage": event["usage"]}
            message["taketurns"] = event["taketurns"]
    assert under_way is None
    return dict(message)


def alike(message: dict[str, Any]) -> dict[str, Any]:
    """What of a message is the same each time."""
    content = [{k: v for k, v in block.items() if k != "id"} for block in message["content"]]
    return {k: v for k, v in message.items() if k not in ("id", "taketurns")} | {"content": content}


@pytest.mark.parametrize(
    ("text", "fields", "content", "reason"),
    [
        ("It does.", {}, [{"type": "text", "text": "It does."}], ("end_turn", None)),
        ("", {}, [], ("end_turn", None)),
        ("abcdef", {"max_tokens": 3}, [{"type": "text", "text": "abc"}], ("max_tokens", None)),
        (
            "ab STOP, cd",
            {"stop_sequences": ["X", "STOP"]},
            [{"type": "text", "text": "ab "}],
            ("stop_sequence", "STOP"),
        ),
        (
            f"So:\n{CALL}",
            {"tools": TOOLS},
            [
                {"type": "text", "text": "So:"},
                {"type": "tool_use", "name": "weather", "input": {"town": "Lyon"}},
            ],
            ("tool_use", None),
        ),
    ],
)
def test_an_answer_is_a_message_whole_and_in_events(
    start: Start, text: str, fields: Any, content: list[Any], reason: tuple[str, str | None]
) -> None:
    server = start(says(text))
    message = answer(server, **fields)
    assert alike(message)["content"] == content
    assert (message["stop_reason"], message["stop_sequence"]) == reason
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["usage"]["input_tokens"] > 0
    assert [patch["name"] for patch in message["taketurns"]["patches"]] == ["a"]
    assert isinstance(message["taketurns"]["seed"], int)
    assert alike(put_together(events(server, **fields))) == alike(message)


def test_every_piece_has_its_speaker(start: Start) -> None:
    server = start(pair())
    told = events(server, seed=1)
    deltas = [event for event in told if event["type"] == "content_block_delta"]
    assert {event["taketurns"]["name"] for event in deltas} == {"a", "b"}
    for event in deltas:
        assert set(event["delta"]["text"]) == {event["taketurns"]["name"]}
    whole = answer(server, seed=1)["taketurns"]
    again = put_together(told)["taketurns"]
    names = [[patch["name"] for patch in one["patches"]] for one in (whole, again)]
    assert names[0] == names[1]
    turns = answer(server, taketurns={"switcher": ["b"]})
    assert set(turns["content"][0]["text"]) == {"b"}


def test_a_conversation_is_read_as_it_is_meant(start: Start) -> None:
    prompts: list[str] = []

    def reply(prompt: str, sampling: Any) -> str:
        prompts.append(prompt)
        return "Yes."

    server = start(says(reply))
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Does it "}]},
        {"role": "user", "content": "rain?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "Let me see.", "cache_control": {"type": "ephemeral"}},
                USE,
            ],
        },
        {
            "role": "user",
            "content": [{**RESULT, "is_error": True}, {"type": "text", "text": "So?"}],
        },
    ]
    answer(server, messages=turns, system=[{"type": "text", "text": "Be brief."}])
    assert prompts[-1] == (
        f"System: Be brief.\nUser: Does it rain?\nAssistant: Let me see.\n{CALL}\n"
        "User: Result of weather: Error: wet\n\nSo?\nAssistant:"
    )
    answer(server, messages=[*ASK["messages"], {"role": "assistant", "content": "It"}])
    assert prompts[-1].endswith("Assistant: It")


@pytest.fixture(scope="module")
def served(make_model: Callable[..., Path], other_tokenizer: Any) -> Iterator[Running]:
    with running(local_team(make_model, other_tokenizer, HERMES)) as server:
        yield server


def test_a_tool_that_must_be_used_is_given_what_its_schema_asks(served: Running) -> None:
    choice = {"type": "tool", "name": "weather"}
    message = answer(served, tools=TOOLS, tool_choice=choice, max_tokens=200, seed=1)
    (block,) = message["content"]
    jsonschema.validate(block["input"], SCHEMA)
    assert message["stop_reason"] == "tool_use"
    any_one = {"type": "any", "disable_parallel_tool_use": True}
    message = answer(served, tools=TOOLS, tool_choice=any_one, max_tokens=200, seed=2)
    assert [block["type"] for block in message["content"]] == ["tool_use"]


def test_output_may_have_a_schema(served: Running) -> None:
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema["additionalProperties"] = False
    asked = {"format": {"type": "json_schema", "schema": schema}}
    message = answer(served, output_config=asked, seed=1, max_tokens=200)
    assert message["stop_reason"] == "end_turn"
    jsonschema.validate(json.loads(message["content"][0]["text"]), schema)


def test_tokens_are_counted_as_they_will_be_read(served: Running) -> None:
    body = {"model": "team", "messages": ASK["messages"], "tools": TOOLS, "system": "Be brief."}
    with served.http() as http:
        counts = {
            model: http.post("/v1/messages/count_tokens", json={**body, "model": model}).json()
            for model in ("team", "one", "two")
        }
    numbers = {model: count["input_tokens"] for model, count in counts.items()}
    assert numbers["team"] == max(numbers["one"], numbers["two"])
    for model in ("one", "two"):
        message = answer(served, **{**body, "model": model}, max_tokens=1)
        assert message["usage"]["input_tokens"] == numbers[model]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_tokens": None}, "max_tokens", "valid integer"),
        ({"max_tokens": 99999}, "max_tokens", "max_tokens is 99999, but this server writes"),
        ({"temperature": 2}, "temperature", "less than or equal to 1"),
        ({"n": 2}, "n", "is not supported here"),
        ({"thinking": {"type": "enabled"}}, "thinking.type", "is not supported here"),
        ({"tools": [{**TOOLS[0], "type": "bash"}]}, "tools.0.type", "is not supported here"),
        ({"tools": TOOLS * 2}, "tools.1.name", "is there twice"),
        (
            {"tools": [{**TOOLS[0], "input_schema": {"type": "array"}}]},
            "tools.0.input_schema.type",
            'must be "object"',
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "moon"}},
            "tool_choice.name",
            "tool_choice.name is 'moon', which is none of the tools",
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name", "is required"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "any", "name": "a"}},
            "tool_choice.name",
            "is for the type tool",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "tool_choice of type any needs tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0.type",
            "is not supported here",
        ),
        (
            {"messages": [{"role": "user", "content": [USE]}]},
            "messages.0.content.0.type",
            "a tool_use must be in a message of the assistant",
        ),
        (
            {"messages": [{"role": "user", "content": [RESULT]}]},
            "messages.0.content",
            "a tool_result names 'call_1'",
        ),
        (
            {"messages": [*ASK["messages"], {"role": "assistant", "content": [USE]}]},
            "messages",
            "'call_1' has no tool_result",
        ),
        (
            {
                "messages": [
                    *ASK["messages"],
                    {"role": "assistant", "content": [USE]},
                    {"role": "user", "content": "So?"},
                ]
            },
            "messages.2.content",
            "'call_1' has no tool_result",
        ),
        (
            {"messages": [*ASK["messages"], {"role": "assistant", "content": [USE, USE]}]},
            "messages.1.content",
            "two tool_use with one id",
        ),
    ],
)
def test_an_error_has_anthropic_s_form(
    served: Running, fields: dict[str, Any], param: str, words: str
) -> None:
    reply = send(served, **fields)
    assert reply.status_code == 400
    told = reply.json()
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert told["error"]["param"] == param
    assert words in told["error"]["message"]


def test_errors_before_the_answer_have_it_too(start: Start) -> None:
    server = start(pair(), api_keys=("secret",), max_body=2000)
    with server.http() as http:
        missing = http.post("/v1/messages", json=ASK)
        assert (missing.status_code, missing.json()["error"]["type"]) == (
            401,
            "authentication_error",
        )
        http.headers["x-api-key"] = "secret"
        assert http.post("/v1/messages", json=ASK).status_code == 200
        unknown = http.post("/v1/messages", json={**ASK, "model": "claude"})
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
        large = http.post("/v1/messages", json={**ASK, "system": "x" * 3000})
        assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
        lost = http.post("/v1/messages/batches", json={})
        assert (lost.status_code, lost.json()["error"]["type"]) == (404, "not_found_error")


def test_a_stream_that_breaks_ends_with_an_error(start: Start) -> None:
    def fails(prompt: str, sampling: Any) -> str:
        raise EngineError("out of order: start it again")

    scripts = {"a": ["abcd"], "b": fails}
    team: Team = scripted(scripts, FixedSwitcher([0, 1]), Policy(patch_size=4, max_tokens=20))
    told = events(start(team))
    assert [event["type"] for event in told[:3]] == [
        *("message_start", "content_block_start", "content_block_delta")
    ]
    assert told[-1]["type"] == "error"
    assert told[-1]["error"]["type"] == "api_error"
