"""Calls of tools in what models write, and in the chat templates that teach them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from taketurns.checkpoints.tool_calls.formats import FORMATS
from taketurns.checkpoints.tool_calls.plain import plain_messages
from taketurns.checkpoints.tool_calls.reading import (
    ArgumentsPiece,
    CallEnded,
    CallFailed,
    CallStarted,
    Piece,
    TextPiece,
)
from taketurns.checkpoints.tool_calls.records import (
    Tool,
    ToolCall,
    ToolConversation,
    ToolTurn,
)
from taketurns.checkpoints.tool_calls.templates import template_tools

from ..tool_templates import (
    AS_TEXT,
    HERMES,
    LLAMA,
    MISTRAL,
    NO_RESULTS,
    NO_TOOLS,
    PYTHON,
    XML,
)

NAMES = ("weather", "time_in")
Call = tuple[str, dict[str, Any]]


def read(parser: str, pieces: Sequence[str], most: int | None = None) -> list[Piece]:
    reader = FORMATS[parser].reader(NAMES, most)
    found = [piece for text in pieces for piece in reader.push(text)]
    return found + reader.close()


def text_and_calls(pieces: Sequence[Piece]) -> tuple[str, list[Call]]:
    """The text beside the calls, and the calls that are complete."""
    text = "".join(
        piece.text if isinstance(piece, TextPiece) else piece.source
        for piece in pieces
        if isinstance(piece, TextPiece | CallFailed)
    )
    names = {piece.index: piece.name for piece in pieces if isinstance(piece, CallStarted)}
    given_to = dict.fromkeys(names, "")
    for piece in pieces:
        if isinstance(piece, ArgumentsPiece):
            given_to[piece.index] += piece.text
    ended = [piece.index for piece in pieces if isinstance(piece, CallEnded)]
    return text, [(names[index], json.loads(given_to[index])) for index in ended]


PARIS: Call = ("weather", {"town": "Paris"})
NOON: Call = ("time_in", {"zone": {"plus": [1, None, True]}, "text": 'a "b" }] \\ é, c)'})
TOWN = '{"town": "Paris"}'
JSON = f'{{"name": "weather", "arguments": {TOWN}}}'
LLAMA_JSON = f'{{"name": "weather", "parameters": {TOWN}}}'
WRITTEN: list[tuple[str, str, str, list[Call]]] = [
    ("hermes", f"<tool_call>\n{JSON}\n</tool_call>", "", [PARIS]),
    (
        "hermes",
        f'Let me see.\n<tool_call>{{"arguments": {TOWN}, "name": "weather"}}</tool_call>\nSo.',
        "Let me see.\nSo.",
        [PARIS],
    ),
    ("hermes", f"<tool_call>\n{JSON}", "", [PARIS]),
    ("hermes", '<tool_call>{"name": "weather"}</tool_call>', "", [("weather", {})]),
    ("hermes", "a < b, <tool> and <tool_call", "a < b, <tool> and <tool_call", []),
    ("hermes", "<tool_call>none</tool_call>", "<tool_call>none</tool_call>", []),
    ("llama3_json", f"{LLAMA_JSON}", "", [PARIS]),
    (
        "llama3_json",
        f'<|python_tag|>{{"type": "function", "name": "weather", "parameters": {TOWN}}}',
        "",
        [PARIS],
    ),
    ("llama3_json", '{"name": "Ada", "parameters": {}}', '{"name": "Ada", "parameters": {}}', []),
    (
        "llama3_json",
        'It is {"name": "weather", "parameters": {}}',
        'It is {"name": "weather", "parameters": {}}',
        [],
    ),
    (
        "mistral",
        f'[TOOL_CALLS] [{{"name": "weather", "arguments": {TOWN}, "id": "abcdefghi"}}]',
        "",
        [PARIS],
    ),
    ("mistral", f"[{JSON}]", "", [PARIS]),
    (
        "mistral",
        f"Hm. [TOOL_CALLS]weather[CALL_ID]abc[ARGS]{TOWN}[TOOL_CALLS]weather{TOWN}",
        "Hm.",
        [PARIS, PARIS],
    ),
    ("mistral", f"weather{TOWN}", "", [PARIS]),
    ("mistral", "weather is fine [TOOL_CALLS] or not", "weather is fine [TOOL_CALLS] or not", []),
    ("pythonic", "[weather(town='Paris')]", "", [PARIS]),
    (
        "pythonic",
        '[ weather( town = "Paris" , ) , weather(town="Paris"), ] So.',
        " So.",
        [PARIS, PARIS],
    ),
    ("pythonic", "[weather()]", "", [("weather", {})]),
    ("pythonic", "[weather(town=Paris)]", "[weather(town=Paris)]", []),
    ("pythonic", "[weather(town='\\q')]", "[weather(town='\\q')]", []),
    ("pythonic", "[weather(1)]", "[weather(1)]", []),
    ("pythonic", "[1, 2] is a list", "[1, 2] is a list", []),
    ("pythonic", "[other()]", "[other()]", []),
]


@pytest.mark.parametrize(("parser", "answer", "text", "calls"), WRITTEN)
def test_what_models_write(parser: str, answer: str, text: str, calls: list[Call]) -> None:
    for step in (1, 2, 7, len(answer)):
        pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
        assert text_and_calls(read(parser, pieces)) == (text, calls)


@pytest.mark.parametrize("parser", FORMATS)
def test_a_format_reads_what_it_spells(parser: str) -> None:
    made = [ToolCall("1", *_json(PARIS)), ToolCall("2", *_json(NOON))]
    answer = FORMATS[parser].spell(made)
    for step in (1, len(answer)):
        pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
        assert text_and_calls(read(parser, pieces)) == ("", [PARIS, NOON])
    text, calls = text_and_calls(read(parser, list(answer), most=1))
    assert calls == [PARIS]
    assert "time_in" in text  # the second is text


@pytest.mark.parametrize("parser", FORMATS)
def test_arguments_come_as_they_are_written(parser: str) -> None:
    answer = FORMATS[parser].spell([ToolCall("1", *_json(NOON))])
    pieces = read(parser, list(answer))
    assert isinstance(pieces[0], CallStarted)
    arguments = [piece.text for piece in pieces if isinstance(piece, ArgumentsPiece)]
    assert len(arguments) > 2


def _json(call: Call) -> tuple[str, str]:
    return call[0], json.dumps(call[1])


@pytest.mark.parametrize("parser", FORMATS)
def test_a_call_that_is_cut_short_is_text_to_the_last_letter(parser: str) -> None:
    answer = FORMATS[parser].spell([ToolCall("1", *_json(NOON))])
    cut_calls = 0
    for size in range(len(answer)):
        text, calls = text_and_calls(read(parser, list(answer[:size])))
        if not calls and parser != "pythonic":
            assert text == answer[:size]
        cut_calls += not calls
    assert cut_calls > 20


FRAGMENTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[", "]", "("),
        *(")", "{", "}", '"', "'", "\\", ",", "=", ";", " ", "\n", "weather", "town", '"name": '),
        *('"weather", ', '"arguments": ', '"parameters": ', '{"town": "x"}', "town='x'", "é", "1"),
        '{"name": "weather", "arguments": {"town": "x"}}',
    ]
)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.lists(st.integers(0, 60), max_size=6),
)
@example("pythonic", "[weather(town='x', 1)]", [])
@example("mistral", '[TOOL_CALLS][{"name": "weather", "arguments": {"town": "x"}} {', [3])
def test_no_way_of_cutting_an_answer_changes_it(parser: str, answer: str, cuts: list[int]) -> None:
    whole = text_and_calls(read(parser, [answer]))
    places = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})
    parts = [answer[a:b] for a, b in pairwise(places)]
    assert text_and_calls(read(parser, parts)) == whole
    assert text_and_calls(read(parser, list(answer))) == whole
    text, calls = whole
    if not calls:  # nothing is lost
        assert text == answer
    sent = ""
    for piece in read(parser, list(answer)):
        if isinstance(piece, CallStarted):
            sent = ""
        elif isinstance(piece, ArgumentsPiece):
            sent += piece.text
            from_json(sent, allow_partial="trailing-strings")  # the beginning of an object


@pytest.mark.parametrize(
    ("template", "knows", "name", "as_text", "short"),
    [
        (HERMES, True, "hermes", False, False),
        (LLAMA, True, "llama3_json", False, False),
        (MISTRAL, True, "mistral", False, True),
        (PYTHON, True, "pythonic", False, False),
        (AS_TEXT, True, "hermes", True, False),
        (XML, True, None, False, False),
        (NO_RESULTS, False, None, False, False),
        (NO_TOOLS, False, None, False, False),
    ],
)
def test_a_template_is_known_by_what_it_writes(
    other_tokenizer: Any, template: str, knows: bool, name: str | None, as_text: bool, short: bool
) -> None:
    tokenizer = copy.deepcopy(other_tokenizer)
    tokenizer.chat_template = template
    tools = template_tools(tokenizer, re.compile(r"<\|im_\w+\|>"))
    assert tools.knows == knows
    assert (None if tools.format is None else tools.format.name) == name
    assert (tools.arguments_as_text, tools.short_ids) == (as_text, short)


TOOL = Tool("weather", {"type": "object"}, {"type": "function", "function": {"name": "weather"}})
CONVERSATION = ToolConversation(
    (
        ToolTurn("system", "Be brief."),
        ToolTurn("user", "Where does it rain?"),
        ToolTurn("assistant", "", (ToolCall("1", "weather", '{"town": "A"}'),)),
        ToolTurn("tool", "dry", call_id="1", name="weather"),
        ToolTurn("tool", "wet", call_id="2", name="weather"),
        ToolTurn("user", "So?"),
    ),
    (TOOL,),
)


def test_a_model_without_a_template_reads_it_all_as_text() -> None:
    system, asked, called, results = plain_messages(CONVERSATION, FORMATS["hermes"])
    assert [turn.role for turn in (system, asked, called, results)] == [
        *("system", "user", "assistant", "user")
    ]
    assert system.content.startswith("Be brief.\n\nYou can call these functions:\n")
    assert '{"name": "weather"}' in system.content
    assert "<tool_call>" in system.content
    assert called.content.startswith('<tool_call>\n{"name": "weather", "arguments": {"town": "A"}}')
    assert results.content == "Result of weather: dry\n\nResult of weather: wet\n\nSo?"
