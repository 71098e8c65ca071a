"""What a chat template knows of tools, found by rendering a small conversation that has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from taketurns.checkpoints.chat_templates import TemplateRefusal, render_template
from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.formats import FORMATS
from taketurns.checkpoints.tool_calls.reading import ArgumentsPiece, CallEnded, CallStarted
from taketurns.checkpoints.tool_calls.records import (
    Tool,
    ToolCall,
    ToolConversation,
    ToolTurn,
)

_LONG_ID, _SHORT_ID = "call_4f8a2c6e9b1d", "k4f8a2c6e"
_SHORT = re.compile(r"[A-Za-z0-9]{9}")
_NAME, _VALUE, _RESULT, _DESCRIPTION = "find_river", "Tolvabrin", "Ostemarr", "Quellfinder"
_PARAMETERS = {
    "type": "object",
    "properties": {"town": {"type": "string", "description": "a town"}},
    "required": ["town"],
}
_TOOL = Tool(
    _NAME,
    _PARAMETERS,
    {
        "type": "function",
        "function": {"name": _NAME, "description": _DESCRIPTION, "parameters": _PARAMETERS},
    },
)
_QUESTION = ToolTurn("user", "Which river?")


@dataclass(frozen=True, slots=True)
class TemplateTools:
    """`knows`: the template shows tools, calls and results, none of which it leaves out. `format`
    is the one of `FORMATS` in which it writes calls, None for another. Some templates take a call's
    arguments as JSON (`arguments_as_text`) or ids of nine letters and digits only
    (`short_ids`)."""

    knows: bool = False
    format: ToolCallFormat | None = None
    arguments_as_text: bool = False
    short_ids: bool = False

    def messages(self, turns: Sequence[ToolTurn]) -> list[dict[str, Any]]:
        """Turns as the template takes them."""
        return [self._message(turn) for turn in turns]

    def _message(self, turn: ToolTurn) -> dict[str, Any]:
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        if turn.role == "tool":
            message |= {"tool_call_id": self._id(turn.call_id), "name": turn.name}
        return message

    def _call(self, call: ToolCall) -> dict[str, Any]:
        given = call.arguments if self.arguments_as_text else call.values
        function = {"name": call.name, "arguments": given}
        return {"id": self._id(call.id), "type": "function", "function": function}

    def _id(self, given: str) -> str:
        if not self.short_ids or _SHORT.fullmatch(given):
            return given
        return sha256(given.encode()).hexdigest()[:9]


def template_tools(tokenizer: Any, control: re.Pattern[str]) -> TemplateTools:
    """What the tokenizer's chat template knows of tools; `control` finds the texts of its control
    tokens."""
    for as_text in (False, True):
        for short in (False, True):
            style = TemplateTools(True, None, as_text, short)
            if _shows_all(tokenizer, style):
                return TemplateTools(True, _format(tokenizer, style, control), as_text, short)
    return TemplateTools()


def _probe(short: bool) -> ToolConversation:
    identifier = _SHORT_ID if short else _LONG_ID
    call = ToolCall(identifier, _NAME, json.dumps({"town": _VALUE}))
    called = ToolTurn("assistant", "", (call,))
    result = ToolTurn("tool", _RESULT, call_id=identifier, name=_NAME)
    return ToolConversation((_QUESTION, called, result), (_TOOL,))


def _shows_all(tokenizer: Any, style: TemplateTools) -> bool:
    text = _rendered(tokenizer, style, _probe(style.short_ids).turns, begin=True)
    return text is not None and all(word in text for word in (_DESCRIPTION, _VALUE, _RESULT))


def _format(
    tokenizer: Any, style: TemplateTools, control: re.Pattern[str]
) -> ToolCallFormat | None:
    """The format that reads the template's own call back as what it was, without control tokens,
    which are no part of an answer's text."""
    asked, called, _ = _probe(style.short_ids).turns
    before = _rendered(tokenizer, style, (asked,), begin=True)
    whole = _rendered(tokenizer, style, (asked, called), begin=False)
    if before is None or whole is None:
        return None
    common = zip(before, whole, strict=False)
    start = next((at for at, (one, other) in enumerate(common) if one != other), len(before))
    written = control.sub("", whole[start:])
    for known in FORMATS.values():
        reader = known.reader([_NAME])
        pieces = [*reader.push(written), *reader.close()]
        given = "".join(piece.text for piece in pieces if isinstance(piece, ArgumentsPiece))
        calls = [piece for piece in pieces if isinstance(piece, CallStarted | CallEnded)]
        if calls == [CallStarted(0, _NAME), CallEnded(0)] and json.loads(given) == {"town": _VALUE}:
            return known
    return None


def _rendered(
    tokenizer: Any, style: TemplateTools, turns: Sequence[ToolTurn], *, begin: bool
) -> str | None:
    tools: Mapping[str, Any] = {"tools": [dict(_TOOL.entry)]}
    try:
        return render_template(tokenizer, style.messages(turns), begin=begin, variables=tools)
    except TemplateRefusal:
        return None
