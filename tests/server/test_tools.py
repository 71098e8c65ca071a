"""Tools in conversations, as OpenAI's client has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher

from ..tool_templates import HERMES, LLAMA, XML
from .conftest import Running, Start, running, scripted

ASK: list[Any] = [{"role": "user", "content": "Does it rain?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"town": {"enum": ["Lyon", "Bern"]}, "soon": {"type": "boolean"}},
    "required": ["town"],
    "additionalProperties": False,
}


def tool(name: str, parameters: Any = SCHEMA) -> Any:
    function = {"name": name, "description": f"the {name}", "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = [tool("weather"), tool("river", {"type": "object", "properties": {}})]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"town": "Lyon"}}\n</tool_call>'
MADE = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town": "Lyon"}'},
}
CALLED = {"role": "assistant", "content": None, "tool_calls": [MADE]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "wet"}


def says(answer: Any, max_tokens: int = 400) -> Team:
    """A team whose first candidate writes this answer in one patch."""
    policy = Policy(patch_size=max_tokens, max_tokens=max_tokens)
    return scripted({"a": answer, "b": []}, FixedSwitcher([0]), policy)


def ask(server: Running, **fields: Any) -> Any:
    asked = {"model": "team", "messages": ASK, "tools": TOOLS, "seed": 1, **fields}
    return server.client().chat.completions.create(**asked)


def streamed(server: Running, **fields: Any) -> tuple[str, list[tuple[str, str]], str, list[Any]]:
    """The text, the calls and the finish reason of a stream, and its chunks."""
    text, calls, finish = "", {}, ""
    chunks = list(ask(server, stream=True, **fields))
    for chunk in chunks:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for piece in choice.delta.tool_calls or ():
            if piece.index not in calls:
                assert piece.id
                assert piece.function.name
                calls[piece.index] = [piece.function.name, ""]
            else:
                assert piece.id is None
                assert piece.function.name is None
            calls[piece.index][1] += piece.function.arguments
    return text, [tuple(call) for call in calls.values()], finish, chunks


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (CALL, None, [("weather", '{"town": "Lyon"}')]),
        (f"Let me see.\n{CALL}\n{CALL}", "Let me see.", [("weather", '{"town": "Lyon"}')] * 2),
        (f"é{CALL.replace('Lyon', 'Ö')}", "é", [("weather", '{"town": "Ö"}')]),
        ("It does.", "It does.", []),
        (CALL.replace("weather", "moon"), CALL.replace("weather", "moon"), []),
        ("<tool_call>weather</tool_call>", "<tool_call>weather</tool_call>", []),
    ],
)
def test_calls_are_found_whole_and_in_a_stream(
    start: Start, answer: str, text: str | None, calls: list[tuple[str, str]]
) -> None:
    server = start(says(answer))
    choice = ask(server).choices[0]
    assert choice.message.content == text
    functions = [call.function for call in choice.message.tool_calls or ()]
    made = [(function.name, function.arguments) for function in functions]
    assert made == calls
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    assert choice.model_extra["taketurns"]["patches"][0]["text"] == answer  # as it was written
    told, also, finish, _ = streamed(server)
    assert (told, also, finish) == (text or "", calls, choice.finish_reason)


def test_a_name_comes_before_its_arguments_and_they_come_as_they_are_written(start: Start) -> None:
    _, _, _, chunks = streamed(start(says(CALL)))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert pieces[0].function.name == "weather"
    assert len(pieces) > 5
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].choices[0].delta.tool_calls is None


def test_a_call_that_the_budget_cuts_is_text_and_not_called(start: Start) -> None:
    server = start(says(CALL, max_tokens=len(CALL) - 25))
    choice = ask(server).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is None
    assert choice.message.content == CALL[:-25]
    text, calls, finish, _ = streamed(server)
    assert (text, finish) == ("", "length")
    assert calls[0][0] == "weather"
    assert '{"town": "Lyon"}'.startswith(calls[0][1])


def test_the_end_of_a_text_that_might_have_been_a_call_is_sent(start: Start) -> None:
    text, calls, finish, _ = streamed(start(says("a <tool")))
    assert (text, calls, finish) == ("a <tool", [], "stop")


def test_no_more_calls_than_one_without_parallel_calls(start: Start) -> None:
    choice = ask(start(says(f"{CALL}\n{CALL}")), parallel_tool_calls=False).choices[0]
    assert len(choice.message.tool_calls) == 1
    assert choice.message.content.strip() == CALL


def test_with_none_there_are_no_tools(start: Start) -> None:
    prompts: list[str] = []

    def answer(prompt: str, sampling: Any) -> str:
        prompts.append(prompt)
        return CALL

    server = start(says(answer))
    choice = ask(server, tool_choice="none").choices[0]
    assert choice.message.content == CALL
    assert choice.finish_reason == "stop"
    assert prompts == [ASK[0]["content"]]
    ask(server, messages=[*ASK, CALLED, RESULT])
    assert '"name": "weather", "description": "the weather"' in prompts[1]
    assert f"Assistant: {CALL}\nUser: Result of weather: wet\nAssistant:" in prompts[1]


def test_an_answer_goes_round_as_clients_send_it_back(start: Start) -> None:
    server = start(says(lambda prompt, _: "It rains." if "wet" in prompt else CALL))
    client = server.client()
    first = ask(server).choices[0].message
    turns = [*ASK, first, {**RESULT, "tool_call_id": first.tool_calls[0].id}]
    reply = client.chat.completions.create(model="team", messages=turns, tools=TOOLS)
    assert reply.choices[0].message.content == "It rains."


def test_functions_of_old_are_read_in_the_history(start: Start) -> None:
    old = {"role": "assistant", "content": None, "function_call": MADE["function"]}
    turns = [*ASK, old, {"role": "function", "name": "weather", "content": "wet"}]
    assert ask(start(says("Yes.")), messages=turns).choices[0].message.content == "Yes."


@pytest.fixture(scope="module")
def served(make_model: Callable[..., Path], other_tokenizer: Any) -> Iterator[Running]:
    """Two models that share no vocabulary, one of them with a template that knows tools."""
    with running(local_team(make_model, other_tokenizer, HERMES)) as server:
        yield server


def local_team(
    make_model: Callable[..., Path], tokenizer: Any, template: str, **policy: Any
) -> Team:
    long = {"max_position_embeddings": 4096}
    specs = {
        "one": ModelSpec(str(make_model(1, **long)), prompt="Q: {text}\nA:"),
        "two": ModelSpec(str(make_model(2, tokenizer=tokenizer, **long)), template=template),
    }
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    rules = Policy(max_tokens=200, patch_size=5, temperature=1.0, **policy)
    return Team(candidates, LocalEngine(specs), RandomSwitcher(), rules)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"weather", "river"}),
        ({"type": "function", "function": {"name": "weather"}}, {"weather"}),
    ],
)
def test_a_call_that_must_be_made_is_held_to_its_schema(
    served: Running, choice: Any, names: set[str]
) -> None:
    tools = [TOOLS[0], tool("river", SCHEMA)]
    fields = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False}
    answer = ask(served, **fields).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    assert call.function.name in names
    jsonschema.validate(json.loads(call.function.arguments), SCHEMA)
    speakers = {patch["speaker"] for patch in answer.model_extra["taketurns"]["patches"]}
    assert speakers == {0, 1}
    _, calls, finish, _ = streamed(served, **fields)
    assert calls == [(call.function.name, call.function.arguments)]
    assert finish == "tool_calls"


def test_an_answer_beside_tools_may_have_a_format(served: Running) -> None:
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema["additionalProperties"] = False
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    seen = set()
    for seed in range(3):
        answer = ask(served, response_format=asked, tools=TOOLS[:1], seed=seed).choices[0]
        seen.add(answer.finish_reason)
        if answer.finish_reason == "tool_calls":
            for call in answer.message.tool_calls:
                jsonschema.validate(json.loads(call.function.arguments), SCHEMA)
        elif answer.finish_reason == "stop":
            jsonschema.validate(json.loads(answer.message.content), schema)
    assert seen & {"stop", "tool_calls"}


def test_a_template_that_knows_tools_is_given_them(served: Running) -> None:
    turns = [*ASK, CALLED, RESULT]
    with served.http() as http:
        asked = {"messages": turns, "tools": TOOLS, "model": "two", "return_token_strs": True}
        tokens = http.post("/tokenize", json=asked).json()["tokens"]
        text = http.post("/detokenize", json={"model": "two", "tokens": tokens}).json()["prompt"]
        assert '"description": "the river"' in text
        assert CALL in text
        assert "tool\nwet" in text
        tokens = http.post("/tokenize", json={**asked, "model": "one"}).json()["tokens"]
        text = http.post("/detokenize", json={"model": "one", "tokens": tokens}).json()["prompt"]
        assert text.startswith("You can call these functions:")
        assert CALL in text


def test_templates_that_disagree_need_a_parser_in_the_team_file(
    start: Start, make_model: Callable[..., Path], other_tokenizer: Any
) -> None:
    specs = {
        "one": ModelSpec(str(make_model(1)), template=HERMES),
        "two": ModelSpec(str(make_model(2, tokenizer=other_tokenizer)), template=LLAMA),
        "odd": ModelSpec(str(make_model(3)), template=XML),
    }

    def team(*names: str, **policy: Any) -> Team:
        own = {name: specs[name] for name in names}
        candidates = [Candidate(name, spec) for name, spec in own.items()]
        rules = Policy(max_tokens=4, **policy)
        return Team(candidates, LocalEngine(own), RandomSwitcher(), rules)

    for names, words in (
        (("one", "two"), r"one hermes, two llama3_json\): set policy.tool_call_parser"),
        (("one", "odd"), "template of 'odd' writes calls in a format that is not known"),
    ):
        server = start(team(*names))
        with pytest.raises(openai.BadRequestError, match=words):
            ask(server)
        assert ask(server, model="one").choices
    assert ask(start(team("one", "two", tool_call_parser="llama3_json"))).choices


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (
            {"tool_choice": {"type": "function", "function": {"name": "moon"}}},
            "tool_choice.function.name",
            "is 'moon', which is none of the tools: name one of tools, which are weather, river",
        ),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [TOOLS[0]] * 2}, "tools.1.function.name", "is there twice"),
        ({"tools": [tool("a b")]}, "tools.0.function.name", "should match pattern"),
        ({"tools": [tool("a")] * 200}, "tools", "at most 128 items"),
        ({"tools": [{"type": "custom"}]}, "tools.0.type", "should be 'function'"),
        (
            {"tools": [tool("a", {"type": "string"})]},
            "tools.0.function.parameters.type",
            'must be "object"',
        ),
        (
            {
                "tools": [tool("a", {"properties": {"b": {"uniqueItems": True}}})],
                "tool_choice": "required",
            },
            "tools.0.function.parameters",
            'tools.0.function.parameters.properties.b: "uniqueItems" is not supported',
        ),
        ({"messages": [*ASK, CALLED]}, "messages", "has no result at the end"),
        (
            {"messages": [*ASK, CALLED, ASK[0]]},
            "messages.2.role",
            "has no result before this turn ('call_1' of weather)",
        ),
        ({"messages": [*ASK, RESULT]}, "messages.1.tool_call_id", "waiting are none"),
        (
            {"messages": [*ASK, CALLED, {**RESULT, "tool_call_id": "call_2"}]},
            "messages.2.tool_call_id",
            "waiting are 'call_1'",
        ),
        (
            {"messages": [*ASK, CALLED, {"role": "tool", "content": "wet"}]},
            "messages.2.tool_call_id",
            "is required",
        ),
        (
            {"messages": [*ASK, CALLED, {"role": "function", "name": "x", "content": "wet"}]},
            "messages.2.name",
            "names no call",
        ),
        (
            {"messages": [*ASK, {**CALLED, "tool_calls": [MADE, MADE]}]},
            "messages.1.tool_calls",
            "two calls with the id 'call_1'",
        ),
        (
            {
                "messages": [
                    *ASK,
                    {
                        **CALLED,
                        "tool_calls": [
                            {**MADE, "function": {"name": "weather", "arguments": "[1]"}}
                        ],
                    },
                ]
            },
            "messages.1.tool_calls.0.function.arguments",
            "must be a JSON object",
        ),
        (
            {"messages": [{**ASK[0], "tool_calls": [MADE]}]},
            "messages.0.tool_calls",
            "only the assistant's messages have calls",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "is required"),
        (
            {"extra_body": {"structured_outputs": {"regex": "a+"}}},
            "tools",
            "beside a format of kind regex are not supported",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_path(
    served: Running, fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(served, **fields)
    assert caught.value.param == param
    assert words in caught.value.body["message"]  # type: ignore[index]


def test_engines_that_keep_to_no_format_call_only_of_themselves(start: Start) -> None:
    with pytest.raises(openai.BadRequestError, match='use tool_choice "auto"'):
        ask(start(says("x")), tool_choice="required")
