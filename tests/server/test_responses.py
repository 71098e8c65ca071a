"""OpenAI's Responses API, asked with OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from taketurns import Policy
from taketurns.errors import EngineError
from taketurns.server.errors import ApiError
from taketurns.server.openai_responses.store import ResponseStore, StoredResponse
from taketurns.switchers.simple import FixedSwitcher

from ..tool_templates import HERMES
from .conftest import Running, Start, pair, running, scripted
from .test_tools import CALL, SCHEMA, local_team, says

TOOLS: list[Any] = [
    {"type": "function", "name": "weather", "description": "the weather", "parameters": SCHEMA}
]
ASK = "Does it rain?"
MADE = {
    "type": "function_call",
    "call_id": "c1",
    "name": "weather",
    "arguments": '{"town": "Lyon"}',
}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "wet"}


def ask(server: Running, **fields: Any) -> Any:
    with server.client() as client:  # whose connection is not for the collector to close
        told = client.responses.create(**{"model": "team", "input": ASK, **fields})
        return list(told) if fields.get("stream") else told


def alike(response: Any) -> dict[str, Any]:
    """What of a response is the same each time."""
    told = response.to_dict()
    own = ("id", "created_at", "taketurns")
    for item in told["output"]:
        for part in (item, *item.get("content", ())):
            for key in ("id", "call_id"):
                part.pop(key, None)
    return {key: value for key, value in told.items() if key not in own}


@pytest.mark.parametrize(
    ("text", "fields", "output", "status"),
    [
        ("It does.", {}, [("message", "It does.")], "completed"),
        ("", {}, [("message", "")], "completed"),
        ("abcdef", {"max_output_tokens": 3}, [("message", "abc")], "incomplete"),
        (CALL, {"tools": TOOLS}, [("weather", '{"town": "Lyon"}')], "completed"),
        (
            f"So:\n{CALL}",
            {"tools": TOOLS},
            [("message", "So:"), ("weather", '{"town": "Lyon"}')],
            "completed",
        ),
        ("a <tool", {"tools": TOOLS}, [("message", "a <tool")], "completed"),
    ],
)
def test_an_answer_is_a_response_whole_and_in_events(
    start: Start, text: str, fields: Any, output: list[Any], status: str
) -> None:
    server = start(says(text))
    response = ask(server, **fields)
    items = [
        ("message", item.content[0].text) if item.type == "message" else (item.name, item.arguments)
        for item in response.output
    ]
    assert items == output
    assert response.status == status
    if status == "incomplete":
        assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    written = response.model_extra["taketurns"]["patches"][0]["text"]
    assert written == (text if status == "completed" else "abc")
    events = ask(server, stream=True, **fields)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == f"response.{status}"
    if text:
        assert alike(events[-1].response) == alike(response)


def test_every_piece_has_its_speaker(start: Start) -> None:
    server = start(pair())
    deltas = [
        event
        for event in ask(server, stream=True, extra_body={"seed": 1})
        if event.type == "response.output_text.delta"
    ]
    assert {event.taketurns["name"] for event in deltas} == {"a", "b"}
    for event in deltas:
        assert set(event.delta) == {event.taketurns["name"]}
    whole = ask(server, extra_body={"seed": 1})
    assert whole.output_text == "".join(event.delta for event in deltas)
    turns = ask(server, extra_body={"taketurns": {"switcher": ["b"]}})
    assert set(turns.output_text) == {"b"}


def test_a_call_that_is_cut_is_not_complete(start: Start) -> None:
    server = start(says(CALL, max_tokens=len(CALL) - 25))
    assert ask(server, tools=TOOLS).output_text == CALL[:-25]
    *_, last = ask(server, tools=TOOLS, stream=True)
    (item,) = last.response.output
    assert (last.type, item.type, item.status) == (
        *("response.incomplete", "function_call"),
        "incomplete",
    )


def test_a_conversation_goes_on_from_a_response(start: Start) -> None:
    prompts: list[str] = []

    def reply(prompt: str, sampling: Any) -> str:
        prompts.append(prompt)
        return "Yes." if "wet" in prompt else CALL

    server = start(says(reply))
    first = ask(server, tools=TOOLS, instructions="Be brief.")
    assert first.previous_response_id is None
    result = {**OUTPUT, "call_id": first.output[0].call_id}
    second = ask(server, tools=TOOLS, previous_response_id=first.id, input=[result])
    assert second.output_text == "Yes."
    assert second.previous_response_id == first.id
    assert "Be brief." in prompts[0]
    assert "Be brief." not in prompts[1]  # instructions are of one response
    third = ask(server, previous_response_id=second.id, input="Sure?")
    assert prompts[2].endswith(
        f"User: {ASK}\nAssistant: {CALL}\nUser: Result of weather: wet\nAssistant: Yes.\n"
        "User: Sure?\nAssistant:"
    )
    with server.client() as client:
        assert client.responses.retrieve(third.id).to_dict() == third.to_dict()
        client.responses.delete(third.id)
        for asks in (client.responses.retrieve, client.responses.delete):
            with pytest.raises(openai.NotFoundError, match="there is no response") as caught:
                asks(third.id)
            assert caught.value.code == "response_not_found"
        with pytest.raises(
            openai.NotFoundError, match="previous_response_id: there is no"
        ) as caught:
            ask(server, previous_response_id=third.id)
        assert caught.value.code == "previous_response_not_found"
        *_, streamed = ask(server, stream=True)
        kept = client.responses.retrieve(streamed.response.id)
        assert kept.to_dict() == streamed.response.to_dict()
        unkept = ask(server, store=False)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(unkept.id)


def test_items_are_read_as_they_come_back(start: Start) -> None:
    prompts: list[str] = []

    def reply(prompt: str, sampling: Any) -> str:
        prompts.append(prompt)
        return "Yes."

    server = start(says(reply))
    message = ask(server).output[0].to_dict()
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": ASK}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        message,
        MADE,
        {**MADE, "call_id": "c2"},
        {**OUTPUT, "call_id": "c2", "output": [{"type": "input_text", "text": "dry"}]},
        OUTPUT,
    ]
    ask(server, input=items)
    assert prompts[-1] == (
        f"System: Be brief.\nUser: {ASK}\nAssistant: Yes.\n{CALL}\n{CALL}\n"
        "User: Result of weather: dry\n\nResult of weather: wet\nAssistant:"
    )


@pytest.fixture(scope="module")
def served(make_model: Callable[..., Path], other_tokenizer: Any) -> Iterator[Running]:
    with running(local_team(make_model, other_tokenizer, HERMES)) as server:
        yield server


class Flag(BaseModel):
    """One that a small model comes to the end of."""

    on: bool


def test_calls_and_texts_keep_to_their_schemas(served: Running) -> None:
    choice = {"type": "function", "name": "weather"}
    response = ask(served, tools=TOOLS, tool_choice=choice, extra_body={"seed": 1})
    (call,) = response.output
    jsonschema.validate(json.loads(call.arguments), SCHEMA)
    with served.client() as client:
        parsed = client.responses.parse(
            model="team", input=ASK, text_format=Flag, extra_body={"seed": 1}
        )
    assert isinstance(parsed.output_parsed, Flag)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": []}, "input", "at least 1"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type", "not supported"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.content.0.type",
            "not supported",
        ),
        ({"input": [OUTPUT]}, "input.0.call_id", "is 'c1', which is no function_call"),
        ({"input": [MADE]}, "input", "'c1' has no function_call_output"),
        (
            {"input": [MADE, {"role": "user", "content": "x"}]},
            "input.1",
            "'c1' has no function_call_output",
        ),
        ({"input": [MADE, MADE]}, "input.1.call_id", "is there twice"),
        (
            {"input": [{**MADE, "arguments": "[]"}, OUTPUT]},
            "input.0.arguments",
            "must be a JSON object",
        ),
        (
            {"input": [{"type": "reasoning", "id": "x", "summary": []}]},
            "input",
            "must have a message",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "is not supported"),
        ({"tools": TOOLS * 2}, "tools.1.name", "is there twice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "name": "moon"}},
            "tool_choice.name",
            "is none of the tools",
        ),
        ({"truncation": "auto"}, "truncation", "is not supported"),
        ({"background": True}, "background", "is not supported"),
        ({"conversation": "conv_1"}, "conversation", "is not supported"),
        ({"include": ["file_search_call.results"]}, "include", "is not supported"),
        ({"max_output_tokens": 99999}, "max_output_tokens", "max_output_tokens is 99999"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}},
            "text.format",
            'text.format: json: "not" is not supported',
        ),
        ({"extra_body": {"messages": []}}, "messages", "is not supported"),
        ({"extra_body": {"inputs": "x"}}, "inputs", "did you mean 'input'"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_path(
    served: Running, fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(served, **fields)
    assert caught.value.param == param
    assert words in caught.value.body["message"]  # type: ignore[index]


def test_values_that_ask_for_nothing_are_taken(start: Start) -> None:
    nothing = {
        "instructions": None,
        "tools": [],
        "tool_choice": "auto",
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "reasoning": {"effort": None, "summary": "auto"},
        "background": False,
        "top_logprobs": 0,
        "metadata": {"a": "b"},
    }
    assert ask(start(says("Yes.")), **nothing).output_text == "Yes."


def test_a_stream_that_breaks_ends_with_a_failed_response(start: Start) -> None:
    def fails(prompt: str, sampling: Any) -> str:
        raise EngineError("out of order: start it again")

    policy = Policy(patch_size=4, max_tokens=20)
    server = start(scripted({"a": ["abcd"], "b": fails}, FixedSwitcher([0, 1]), policy))
    *_, last = ask(server, stream=True)
    assert last.type == "response.failed"
    assert last.response.error.message == "a model failed: see the server's log"
    assert last.response.output[0].content[0].text == "abcd"


def test_the_store_is_bounded_in_number_and_bytes() -> None:
    def stored(size: int) -> StoredResponse:
        return StoredResponse(b"x" * size, b"[]")

    store = ResponseStore(2, 100)
    for name in ("a", "b"):
        store.keep(name, stored(10))
    store.response("a")  # used last
    store.keep("c", stored(10))
    assert store.messages("a") == []
    with pytest.raises(ApiError, match="there is no response 'b' here"):
        store.response("b")
    store.keep("d", stored(90))  # two bytes of messages: d alone has room
    assert len(store) == 1
    store.keep("e", stored(99))
    assert len(store) == 0
    store.keep("f", stored(10))
    store.delete("f")
    store.keep("g", stored(98))
    assert store.response("g") == b"x" * 98
    nothing = ResponseStore(0, 100)
    nothing.keep("a", stored(1))
    assert len(nothing) == 0
