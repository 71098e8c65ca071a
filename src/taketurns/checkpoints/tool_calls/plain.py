"""Conversations with tools as plain text, for models that know none.

A model without a chat template, or whose template has no place for tools, reads the functions in
the system message, calls as the assistant's text, and results as the user's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.records import Tool, ToolConversation, ToolTurn
from taketurns.types import Message

_APART = "\n\n"


def plain_messages(
    conversation: ToolConversation, written_in: ToolCallFormat
) -> tuple[Message, ...]:
    """The conversation in system, user and assistant turns, with calls written in this format.
    Results and a user's text that follow each other are one turn, as many templates want it."""
    messages: list[Message] = []
    after_result = False
    for turn in conversation.turns:
        message = _plain(turn, written_in)
        joined = after_result and message.role == "user"
        after_result = turn.role == "tool"
        if joined or (after_result and messages and messages[-1].role == "user"):
            message = Message("user", _together(messages.pop().content, message.content))
        messages.append(message)
    if not conversation.tools:
        return tuple(messages)
    listing = _listing(conversation.tools, written_in)
    if messages and messages[0].role == "system":
        first = messages.pop(0)
        listing = _together(first.content, listing)
    return (Message("system", listing), *messages)


def _plain(turn: ToolTurn, written_in: ToolCallFormat) -> Message:
    if turn.role == "tool":
        return Message("user", f"Result of {turn.name}: {turn.content}")
    if turn.calls:
        return Message("assistant", _together(turn.content, written_in.spell(turn.calls), "\n"))
    return Message(turn.role, turn.content)


def _together(first: str, second: str, apart: str = _APART) -> str:
    return first + apart + second if first else second


def _listing(tools: Sequence[Tool], written_in: ToolCallFormat) -> str:
    functions = [json.dumps(tool.entry["function"], ensure_ascii=False) for tool in tools]
    return "\n".join(("You can call these functions:", *functions, written_in.teaching))
