"""Calls in an answer as OpenAI's objects, whole or in pieces."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taketurns.checkpoints.tool_calls.reading import (
    ArgumentsPiece,
    CallEnded,
    CallFailed,
    CallStarted,
    Piece,
    TextPiece,
    ToolCallReader,
)

JsonObject = dict[str, Any]


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: str = ""
    complete: bool = False

    def entry(self) -> JsonObject:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


class ToolOutput:
    """Collects an answer's text and calls. A call that failed is text of the whole answer; in a
    stream its pieces were sent already."""

    def __init__(self, reader: ToolCallReader) -> None:
        self._reader = reader
        self._parts: list[str | _Call] = []
        self._calls: dict[int, _Call] = {}

    def push(self, text: str) -> JsonObject:
        """Take text of the answer in; returns a chunk's delta."""
        return self._add(self._reader.push(text))

    def put(self, text: str) -> None:
        """Take text in that goes before the answer."""
        self._parts.append(text)

    def close(self) -> JsonObject:
        """End the answer; returns a chunk's delta."""
        return self._add(self._reader.close())

    @property
    def called(self) -> bool:
        """Whether the answer calls, and every call is complete."""
        return self._reader.complete > 0 and not self._reader.failed

    def is_complete(self, identifier: str) -> bool:
        """Whether the call with this id is complete."""
        return any(call.complete for call in self._calls.values() if call.id == identifier)

    def message(self) -> JsonObject:
        """The message of the whole answer."""
        text = "".join(part for part in self._parts if isinstance(part, str))
        calls = [part.entry() for part in self._parts if isinstance(part, _Call)]
        message: JsonObject = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        return message

    def _add(self, pieces: Sequence[Piece]) -> JsonObject:
        text = ""
        entries: dict[int, JsonObject] = {}
        for piece in pieces:
            if isinstance(piece, TextPiece):
                text += piece.text
                self._parts.append(piece.text)
            elif isinstance(piece, CallStarted):
                call = _Call(f"call_{secrets.token_hex(12)}", piece.name)
                self._parts.append(call)
                self._calls[piece.index] = call
                entries[piece.index] = {"index": piece.index, **call.entry()}
            elif isinstance(piece, ArgumentsPiece):
                self._calls[piece.index].arguments += piece.text
                entry = entries.setdefault(
                    piece.index, {"index": piece.index, "function": {"arguments": ""}}
                )
                entry["function"]["arguments"] += piece.text
            elif isinstance(piece, CallEnded):
                self._calls[piece.index].complete = True
            elif isinstance(piece, CallFailed):
                place = self._parts.index(self._calls[piece.index])
                self._parts[place] = piece.source
        delta: JsonObject = {"content": text} if text else {}
        return {**delta, "tool_calls": list(entries.values())} if entries else delta
