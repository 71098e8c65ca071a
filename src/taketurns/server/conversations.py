"""The conversation of a request, checked: who speaks, which calls were made, and their results."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.plain import plain_messages
from taketurns.checkpoints.tool_calls.records import (
    Tool,
    ToolCall,
    ToolConversation,
    ToolTurn,
)
from taketurns.server.errors import ApiError, bad_request
from taketurns.server.message_schemas import ChatMessage
from taketurns.types import Message, Query

_FUNCTION_CALL = "function_call"  # the id of a call that has none


def read_turns(messages: Sequence[ChatMessage]) -> tuple[ToolTurn, ...]:
    """The turns of a conversation. Raises ApiError where a turn is not one of its role, or calls
    and results do not belong together."""
    turns: list[ToolTurn] = []
    waiting: dict[str, str] = {}  # the calls that have no result yet: their functions by id
    for index, message in enumerate(messages):
        _check_fields(message, index)
        if message.role in ("tool", "function"):
            turns.append(_result(message, index, waiting))
            continue
        if waiting:
            raise _no_result(waiting, f"messages.{index}.role", "before this turn")
        calls = _calls(message, index)
        waiting = {call.id: call.name for call in calls}
        if message.role in ("system", "developer"):
            turns.append(ToolTurn("system", message.text))
        elif message.role == "assistant":
            turns.append(ToolTurn("assistant", message.text, calls))
        else:
            turns.append(ToolTurn("user", message.text))
    if waiting:
        raise _no_result(waiting, "messages", "at the end of the messages")
    return tuple(turns)


def has_tools(turns: Sequence[ToolTurn]) -> bool:
    """Whether any tool was called."""
    return any(turn.calls or turn.role == "tool" for turn in turns)


def conversation_query(
    identifier: str,
    turns: Sequence[ToolTurn],
    tools: Sequence[Tool] = (),
    written_in: ToolCallFormat | None = None,
) -> Query:
    """A conversation as a query, in which tools, calls (`written_in` a format) and results are
    plain text. A single question becomes a plain text, as in task files."""
    if written_in is not None:
        conversation = ToolConversation(tuple(turns), tuple(tools))
        return Query(identifier, messages=plain_messages(conversation, written_in))
    if len(turns) == 1 and turns[0].role == "user":
        return Query(identifier, text=turns[0].content)
    messages = (Message(turn.role, turn.content) for turn in turns if turn.role != "tool")
    return Query(identifier, messages=tuple(messages))


def _check_fields(message: ChatMessage, index: int) -> None:
    place = f"messages.{index}"
    calls = bool(message.tool_calls) or message.function_call is not None
    if message.content is None and not (message.role == "assistant" and calls):
        raise bad_request(f"{place}.content is required", f"{place}.content")
    if message.tool_call_id is not None and message.role != "tool":
        raise bad_request(
            f"{place}.tool_call_id is not supported here: leave it out, as only messages of the "
            "tool have one",
            f"{place}.tool_call_id",
        )
    if calls and message.role != "assistant":
        field = "tool_calls" if message.tool_calls else "function_call"
        raise bad_request(
            f"{place}.{field} is not supported here: leave it out, as only the assistant's "
            "messages have calls",
            f"{place}.{field}",
        )


def _calls(message: ChatMessage, index: int) -> tuple[ToolCall, ...]:
    """The calls of a turn. Raises ApiError."""
    made = [
        (call.id, call.function, f"messages.{index}.tool_calls.{number}.function.arguments")
        for number, call in enumerate(message.tool_calls or ())
    ]
    if message.function_call is not None:
        place = f"messages.{index}.function_call.arguments"
        made.append((_FUNCTION_CALL, message.function_call, place))
    calls: list[ToolCall] = []
    for identifier, function, place in made:
        if identifier in [call.id for call in calls]:
            raise bad_request(
                f"messages.{index}.tool_calls has two calls with the id {identifier!r}: give each "
                "its own",
                f"messages.{index}.tool_calls",
            )
        if not _is_object(function.arguments or "{}"):
            raise bad_request(f'{place} must be a JSON object, as in {{"a": 1}}', place)
        calls.append(ToolCall(identifier, function.name, function.arguments or "{}"))
    return tuple(calls)


def _result(message: ChatMessage, index: int, waiting: dict[str, str]) -> ToolTurn:
    """A turn with the result of a call, which is no longer waiting. Raises ApiError."""
    identifier, field = message.tool_call_id, "tool_call_id"
    if message.role == "function":
        identifier, field = _FUNCTION_CALL, "name"
        if message.name is None or waiting.get(identifier) != message.name:
            identifier = None
    if identifier is None and message.role == "tool":
        place = f"messages.{index}.{field}"
        raise bad_request(f"{place} is required of a message of the tool", place)
    if identifier is None or identifier not in waiting:
        place = f"messages.{index}.{field}"
        open_calls = ", ".join(map(repr, waiting)) or "none"
        raise bad_request(
            f"{place} names no call that waits for its result: send the result right after the "
            f"assistant's message with the call; waiting are {open_calls}",
            place,
        )
    name = waiting.pop(identifier)
    return ToolTurn("tool", message.text, call_id=identifier, name=name)


def _no_result(waiting: dict[str, str], param: str, where: str) -> ApiError:
    calls = ", ".join(f"{identifier!r} of {name}" for identifier, name in waiting.items())
    return bad_request(
        f"{param}: a call has no result {where} ({calls}): send a message of the tool for each "
        "call, right after the assistant's",
        param,
    )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
