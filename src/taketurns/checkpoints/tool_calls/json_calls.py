"""Calls that are written as JSON objects: `{"name": …, "arguments": {…}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from typing import Any

from pydantic_core import from_json

from taketurns.checkpoints.tool_calls.reading import (
    ArgumentsPiece,
    CallEnded,
    CallFailed,
    Feed,
    Piece,
    TextPiece,
)
from taketurns.checkpoints.tool_calls.records import Tool

ARGUMENTS = ("arguments", "parameters")
_HEADER = re.compile(
    r'\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*'
    r'"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_BEGINS = re.compile(r"\s*(?:\{|\Z)")
_REST = re.compile(r"\s*(?:,[^{}]*)?\}")  # what a call may have after its arguments
_BEFORE_END = re.compile(r"\s*(?:,[^{}]*)?\Z")

Reading = Generator[Piece | None, None, bool]


class ObjectEnd:
    """Finds the end of a JSON object in a text that grows; the text begins with it, after any
    white space."""

    def __init__(self) -> None:
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """Where the object ends, None as long as it does not."""
        for at in range(self._at, len(text)):
            letter = text[at]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif letter == "\\":
                    self._escaped = True
                elif letter == '"':
                    self._in_string = False
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        self._at = len(text)
        return None


def json_call(feed: Feed, before: str = "") -> Reading:
    """Reads a call from its opening brace on. Returns whether it was one; if not, its text was
    given as text, after the text `before` it."""
    end = ObjectEnd()
    while True:
        if feed.full or not _BEGINS.match(feed.text):
            yield TextPiece(before)
            return False
        if (header := _HEADER.match(feed.text)) is not None:
            name = _loaded(header[1])
            if name not in feed.names:
                yield TextPiece(before)
                return False
            before += feed.take(header.end())
            if not (yield from arguments(feed, name, before)):
                return False
            yield from _rest(feed)
            return True
        if (size := end.find(feed.text)) is not None:
            return (yield from _whole(feed, size, before))
        if feed.ended:
            yield TextPiece(before + feed.take(len(feed.text)))
            return False
        yield None


def arguments(feed: Feed, name: str, before: str) -> Reading:
    """Reads the arguments of a call from their opening brace on. Returns whether they are JSON;
    `before` is the text of the call before them."""
    started = feed.start(name)
    yield started
    index, sent, end = started.index, "", ObjectEnd()
    while True:
        size = end.find(sent + feed.text)
        piece = feed.text if size is None else feed.text[: size - len(sent)]
        if not _begins_json(sent + piece, whole=size is not None):
            yield CallFailed(index, before + sent)
            return False
        if piece:
            yield ArgumentsPiece(index, piece)
        sent += feed.take(len(piece))
        if size is not None:
            yield CallEnded(index)
            return True
        if feed.ended:
            yield CallFailed(index, before + sent)
            return False
        yield None


def _whole(feed: Feed, size: int, before: str) -> Reading:
    """A call that is complete, with its keys in any order."""
    source = feed.take(size)
    call = _loaded(source)
    known = isinstance(call, dict) and call.get("name") in feed.names
    given = [call[key] for key in ARGUMENTS if key in call] if known else []
    if not known or len(given) > 1 or not all(isinstance(value, dict) for value in given):
        yield TextPiece(before + source)
        return False
    started = feed.start(call["name"])
    yield started
    yield ArgumentsPiece(started.index, json.dumps(given[0] if given else {}, ensure_ascii=False))
    yield CallEnded(started.index)
    return True


def _rest(feed: Feed) -> Generator[Piece | None, None, None]:
    """Reads what stands between a call's arguments and its closing brace, such as its id."""
    while True:
        if (rest := _REST.match(feed.text)) is not None:
            feed.take(rest.end())
            return
        if not _BEFORE_END.match(feed.text):
            return
        if feed.ended:
            if not feed.text.strip():
                feed.take(len(feed.text))
            return
        yield None


def skip(feed: Feed, pattern: re.Pattern[str], partial: re.Pattern[str]) -> Reading:
    """Reads what `pattern` matches, waiting as long as the text matches `partial`. Returns whether
    it was there."""
    while True:
        if (match := pattern.match(feed.text)) is not None:
            feed.take(match.end())
            return True
        if feed.ended or not partial.match(feed.text):
            return False
        yield None


def call_schema(tool: Tool, key: str = "arguments") -> dict[str, Any]:
    """The JSON schema of a call of this tool."""
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.name},
            key: _moved(tool.parameters, f"#/properties/{key}"),
        },
        "required": ["name", key],
        "additionalProperties": False,
    }


def _moved(schema: Any, to: str) -> Any:
    """A schema whose references hold when it stands at `to` in another one."""
    if isinstance(schema, Mapping):
        return {
            key: to + value.removeprefix("#")
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, to)
            for key, value in schema.items()
        }
    return [_moved(part, to) for part in schema] if isinstance(schema, list) else schema


def _begins_json(text: str, *, whole: bool) -> bool:
    if whole:
        return isinstance(_loaded(text), dict)
    try:
        from_json(text, allow_partial="trailing-strings", allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and infinity are no JSON
