"""The calls of Llama 3.2 (small ones), Llama 4, ToolACE and others: a list of Python's calls."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Generator, Sequence
from typing import Any

from taketurns.checkpoints.tool_calls.base import JsonRule, ToolCallFormat, alternatives
from taketurns.checkpoints.tool_calls.json_calls import Reading, skip
from taketurns.checkpoints.tool_calls.reading import (
    ArgumentsPiece,
    CallEnded,
    CallFailed,
    Feed,
    Pieces,
    TextPiece,
    plain_text,
)
from taketurns.checkpoints.tool_calls.records import Tool, ToolCall

_LIST = re.compile(r"\s*\[\s*(?=[\w.-]+\s*\()")
_BEFORE_LIST = re.compile(r"\s*(?:\[\s*(?:[\w.-]+\s*)?)?\Z")
_CALL = re.compile(r"\s*([\w.-]+)\s*\(\s*")
_CLOSE = re.compile(r"\s*\)")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_BEFORE_KEY = re.compile(r"\s*(?:[A-Za-z_]\w*\s*=?\s*)?\Z")
_COMMA = re.compile(r"\s*,\s*(?=[\w.-]+\s*\()")
_BEFORE_COMMA = re.compile(r"\s*(?:,\s*(?:[\w.-]+\s*)?)?\Z")
_END = re.compile(r"\s*,?\s*\]")
_BEFORE_END = re.compile(r"\s*,?\s*\Z")
_ESCAPE = re.compile(r"\\(?:[\\'\"abfnrtv0-7xuUN\n]|(.))", re.DOTALL)  # (.) is none of Python's
_NO_ARGUMENT = ("anyOf", "oneOf", "allOf", "$ref", "patternProperties")


class Pythonic(ToolCallFormat):
    """The list is at the beginning of an answer. Arguments have names, and values of Python or of
    JSON, which are streamed one by one."""

    name = "pythonic"
    teaching = (
        "To call functions, answer with a list of calls, as in\n"
        "[FUNCTION(NAME=VALUE, NAME=VALUE)]\n"
        "and nothing else."
    )

    def pieces(self, feed: Feed) -> Pieces:
        while (begun := _LIST.match(feed.text)) is None:
            if feed.ended or not _BEFORE_LIST.match(feed.text):
                break
            yield None
        if begun is not None:
            before = feed.take(begun.end())
            while (yield from _call(feed, before)):
                if not (yield from skip(feed, _COMMA, _BEFORE_COMMA)):
                    yield from skip(feed, _END, _BEFORE_END)
                    break
                before = ", "
        yield from plain_text(feed)

    def spell(self, calls: Sequence[ToolCall]) -> str:
        return f"[{', '.join(_spelled(call) for call in calls)}]"

    def grammar(self, tools: Sequence[Tool], json_rule: JsonRule, *, many: bool) -> str:
        rules = [_rules(tool, number, json_rule) for number, tool in enumerate(tools)]
        each = alternatives("call", [f"of_{number}" for number in range(len(tools))])
        calls = 'calls: "[" call (", " call)* "]"' if many else 'calls: "[" call "]"'
        return "\n".join((calls, each, *rules))


def _spelled(call: ToolCall) -> str:
    given = ", ".join(f"{key}={value!r}" for key, value in call.values.items())
    return f"{call.name}({given})"


def _call(feed: Feed, before: str) -> Reading:
    """Reads one call. Returns whether it was one; if not, it was given as text after `before`."""
    while (head := _CALL.match(feed.text)) is None:
        if feed.ended:
            yield TextPiece(before)
            return False
        yield None
    if head[1] not in feed.names or feed.full:
        yield TextPiece(before)
        return False
    source = before + feed.take(head.end())
    started = feed.start(head[1])
    index, opened = started.index, "{"
    yield started
    while True:
        while not feed.text.strip() and not feed.ended:
            yield None
        if (closing := _CLOSE.match(feed.text)) is not None:
            feed.take(closing.end())
            yield ArgumentsPiece(index, "{}" if opened == "{" else "}")
            yield CallEnded(index)
            return True
        given = yield from _argument(feed)
        if given is None:
            yield CallFailed(index, source)
            return False
        name, value, written = given
        yield ArgumentsPiece(index, f"{opened}{json.dumps(name)}: {value}")
        opened = ", "
        source += written


def _argument(feed: Feed) -> Generator[None, None, tuple[str, str, str] | None]:
    """Reads one argument, with the comma after it: its name, its value as JSON, and what it was
    read from. None if it is none, or does not end."""
    while (key := _KEY.match(feed.text)) is None:
        if feed.ended or not _BEFORE_KEY.match(feed.text):
            return None
        yield None
    end = _ValueEnd(key.end())
    while (size := end.find(feed.text)) is None:
        if feed.ended:
            return None
        yield None
    value = _json_of(feed.text[key.end() : size])
    if value is None:
        return None
    return key[1], value, feed.take(size + (feed.text[size] == ","))


class _ValueEnd:
    """Finds the end of a value that begins at `start` of a text that grows: the comma or bracket
    after it."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._depth = 0
        self._quote = ""

    def find(self, text: str) -> int | None:
        """Where the value ends, None as long as it does not."""
        while self._at < len(text):
            letter = text[self._at]
            if self._quote:
                if letter == "\\":
                    self._at += 1
                elif letter == self._quote:
                    self._quote = ""
            elif letter in "\"'":
                self._quote = letter
            elif letter in "([{":
                self._depth += 1
            elif self._depth == 0 and letter in ",)":
                return self._at
            elif letter in ")]}":
                self._depth -= 1
            self._at += 1
        return None


def _json_of(source: str) -> str | None:
    """A value of JSON or Python as JSON, None if it is neither."""
    try:
        value = json.loads(source)
    except (ValueError, RecursionError):
        if any(escape[1] for escape in _ESCAPE.finditer(source)):
            return None
        try:
            value = ast.literal_eval(source.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()  # Python can spell half of a surrogate pair
    except (ValueError, TypeError, RecursionError):
        return None
    return text


def _rules(tool: Tool, number: int, json_rule: JsonRule) -> str:
    """The rules of a call of the tool, `of_NUMBER` first: its arguments in the schema's order,
    of which those that are not required may be missing."""
    schema = dict(tool.parameters)
    if key := next((key for key in _NO_ARGUMENT if schema.get(key)), None):
        raise ValueError(f"{key} of all arguments cannot be asked for in the pythonic format")
    properties = schema.get("properties") or {}
    if wrong := next((name for name in properties if not name.isidentifier()), None):
        raise ValueError(f"{wrong!r} is no name of an argument in Python")
    required = set(schema.get("required") or ())
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    names = list(properties)
    lines = [f'of_{number}: "{tool.name}(" first_{number}_0 ")"']
    for index, name in enumerate(names):
        value: Any = properties[name]
        value = {**shared, **value} if isinstance(value, dict) else value
        lines.append(f'given_{number}_{index}: "{name}=" value_{number}_{index}')
        lines.append(f"value_{number}_{index}: {json_rule(value)}")
        given, later = f"given_{number}_{index}", f"later_{number}_{index + 1}"
        missing = name not in required
        first = f" | first_{number}_{index + 1}" if missing else ""
        lines.append(f"first_{number}_{index}: {given} {later}{first}")
        after = f" | {later}" if missing else ""
        lines.append(f'later_{number}_{index}: ", " {given} {later}{after}')
    last = len(names)
    lines += [f'first_{number}_{last}: ""', f'later_{number}_{last}: ""']
    return "\n".join(lines)
