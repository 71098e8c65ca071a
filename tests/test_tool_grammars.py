"""Grammars of answers that must call a tool, in every format of calls."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from taketurns.checkpoints.grammar_vocabulary import byte_vocabulary
from taketurns.checkpoints.tool_calls.formats import FORMATS
from taketurns.checkpoints.tool_calls.reading import ArgumentsPiece, CallEnded, CallStarted
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall
from taketurns.errors import ConfigError
from taketurns.generation.formats.grammar import compile_format
from taketurns.generation.formats.tool_calls import calls_format, check_parameters
from taketurns.types import AnswerFormat

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "enum": ["a", "b"]},
        "node": {"$ref": "#/$defs/node"},
        "soon": {"type": "boolean"},
    },
    "required": ["soon"],
    "additionalProperties": False,
    "$defs": {"node": {**NODE, "additionalProperties": False}},
}


def tool(name: str, schema: Any) -> Tool:
    return Tool(name, schema, {"type": "function", "function": {"name": name}})


TOOLS = [tool("first", SCHEMA), tool("second", {"type": "object", "properties": {}})]


def accepts(answer_format: AnswerFormat, text: str) -> bool:
    vocabulary = byte_vocabulary()
    matcher = compile_format(answer_format).start(vocabulary)
    return bool(matcher.consume_tokens(vocabulary.spell(text.encode()))) and matcher.is_accepting()


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_grammar_writes_is_a_call(name: str) -> None:
    for tools in (TOOLS, TOOLS[:1], TOOLS[1:]):
        example = compile_format(calls_format(tools, FORMATS[name], many=False)).example
        assert example is not None
        reader = FORMATS[name].reader([tool.name for tool in tools])
        pieces = [*reader.push(example.decode()), *reader.close()]
        assert isinstance(pieces[0], CallStarted)
        assert isinstance(pieces[-1], CallEnded)
        schema = next(one.parameters for one in tools if one.name == pieces[0].name)
        given = "".join(piece.text for piece in pieces if isinstance(piece, ArgumentsPiece))
        jsonschema.validate(json.loads(given), schema)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"soon": True}, True),
        ({"place": "a", "node": {"next": {"next": {}}}, "soon": False}, True),
        ({"place": "a"}, False),
        ({"place": "c", "soon": True}, False),
        ({"soon": True, "other": 1}, False),
    ],
)
def test_it_keeps_to_the_schema(name: str, arguments: Any, right: bool) -> None:
    written_in = FORMATS[name]
    call = ToolCall("1", "first", json.dumps(arguments))
    text = written_in.spell([call]).replace("[TOOL_CALLS]", "")  # a control token, no text
    if name == "pythonic":
        text = text.replace("True", "true").replace("False", "false")
        text = text.replace("'", '"')
    one, many = (calls_format(TOOLS, written_in, many=many) for many in (False, True))
    assert accepts(one, text) == right
    both = written_in.spell([call, ToolCall("2", "second", "{}")]).replace("[TOOL_CALLS]", "")
    if name == "pythonic":
        both = both.replace("True", "true").replace("False", "false").replace("'", '"')
    assert accepts(many, both) == right
    assert not accepts(one, both)


def test_an_answer_may_be_json_instead() -> None:
    otherwise = AnswerFormat("json", json.dumps({"type": "array", "items": {"type": "integer"}}))
    either = calls_format(TOOLS, FORMATS["hermes"], many=True, otherwise=otherwise)
    assert accepts(either, "[1, 2]")
    assert accepts(either, '<tool_call>\n{"name": "second", "arguments": {}}\n</tool_call>')
    assert not accepts(either, "yes")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, "anyOf of all arguments"),
        ({"type": "object", "properties": {"a-b": {}}}, "'a-b' is no name of an argument"),
    ],
)
def test_python_cannot_say_everything(schema: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        calls_format([tool("f", schema)], FORMATS["pythonic"], many=False)


def test_a_schema_that_cannot_be_kept_is_named_by_its_path() -> None:
    with pytest.raises(ConfigError, match=r'json.properties.a: "uniqueItems" is not supported'):
        check_parameters(tool("f", {"properties": {"a": {"uniqueItems": True}}}))
