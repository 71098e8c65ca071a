"""Anthropic's requests as OpenAI's, which jobs are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from taketurns.server.anthropic.schemas import (
    InputMessage,
    InputTool,
    MessagesRequest,
    PromptFields,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    joined,
)
from taketurns.server.errors import ApiError, bad_request
from taketurns.server.field_places import Places
from taketurns.server.schemas import ChatRequest

PLACES: Places = (  # where Anthropic's requests have what OpenAI's have elsewhere
    (re.compile(r"\btools\.(\d+)\.function\.parameters"), r"tools.\1.input_schema"),
    (re.compile(r"\btools\.(\d+)\.function\."), r"tools.\1."),
    (re.compile(r"\btool_choice\.function\."), "tool_choice."),
    (re.compile(r'\btool_choice: "required"'), "tool_choice of type any"),
    (re.compile(r"\bresponse_format\b"), "output_config.format"),
    (re.compile(r"\bmax_completion_tokens\b"), "max_tokens"),
)

_ROLES = {
    "tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_result": "user",
}


def chat_request(body: PromptFields) -> ChatRequest:
    """The same request in OpenAI's form. Raises ApiError."""
    fields: dict[str, Any] = {"model": body.model, "messages": _messages(body)}
    if body.tools:
        fields["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                },
            }
            for tool in body.tools
            if isinstance(tool, InputTool)  # others are refused
        ]
    fields |= _choice(body)
    if body.output_config is not None:
        fields["reasoning_effort"] = body.output_config.effort
        if (asked := body.output_config.format) is not None:
            schema = {"name": "answer", "schema": asked.schema_}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(body, MessagesRequest):
        fields |= {
            "max_completion_tokens": body.max_tokens,
            "stop": body.stop_sequences or None,
            "stream": body.stream,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
            "seed": body.seed,
            "taketurns": body.taketurns,
        }
    return ChatRequest.model_validate(fields)


def _choice(body: PromptFields) -> dict[str, Any]:
    choice = body.tool_choice
    if choice is None:
        return {}
    fields: dict[str, Any] = {"parallel_tool_calls": not choice.disable_parallel_tool_use}
    if choice.type == "tool":
        if choice.name is None:
            raise bad_request("tool_choice.name is required of the type tool", "tool_choice.name")
        return fields | {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    if choice.name is not None:
        raise bad_request(
            f"tool_choice.name is for the type tool, not {choice.type}: leave it out",
            "tool_choice.name",
        )
    return fields | {"tool_choice": "required" if choice.type == "any" else choice.type}


def _messages(body: PromptFields) -> list[dict[str, Any]]:
    """The conversation in OpenAI's turns: results of calls have turns of their own."""
    system = body.system if isinstance(body.system, str) else joined(body.system)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    waiting: list[str] = []
    for first, role, blocks in _turns(body.messages):
        place = f"messages.{first}.content"
        if role != "user" and waiting:
            raise _no_result(waiting, place)
        if role == "system":
            messages.append({"role": "system", "content": joined(blocks)})
            continue
        if role == "assistant":
            calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
            waiting = [call.id for call in calls]
            messages.append(_assistant(blocks, calls, place))
            continue
        for block in blocks:
            if isinstance(block, ToolResultBlock):
                if block.tool_use_id not in waiting:
                    raise bad_request(
                        f"{place}: a tool_result names {block.tool_use_id!r}, which is no tool_use "
                        "of the assistant's turn before that waits for its result: send it right "
                        "after that turn, before any text",
                        place,
                    )
                waiting.remove(block.tool_use_id)
                messages.append(
                    {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.text}
                )
            elif waiting:
                raise _no_result(waiting, place)
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        if waiting:
            raise _no_result(waiting, place)
        if texts or not blocks:
            messages.append({"role": "user", "content": joined(texts)})
    if waiting:
        raise _no_result(waiting, "messages")
    return messages


def _turns(messages: Sequence[InputMessage]) -> Iterator[tuple[int, str, list[Any]]]:
    """Turns with the index of their first message: messages of one role that follow each other
    are one turn. Raises ApiError for a block in a turn of the wrong role."""
    turn: tuple[int, str, list[Any]] | None = None
    for index, message in enumerate(messages):
        for number, block in enumerate(message.blocks):
            own = _ROLES.get(block.type, message.role)
            if own != message.role:
                place = f"messages.{index}.content.{number}.type"
                raise bad_request(
                    f"{place}: a {block.type} must be in a message of the {own}", place
                )
        if turn is not None and turn[1] == message.role:
            turn[2].extend(message.blocks)
            continue
        if turn is not None:
            yield turn
        turn = (index, message.role, message.blocks)
    if turn is not None:
        yield turn


def _assistant(blocks: Sequence[Any], calls: Sequence[ToolUseBlock], place: str) -> dict[str, Any]:
    if len({call.id for call in calls}) < len(calls):
        raise bad_request(f"{place} has two tool_use with one id: give each its own", place)
    text = joined([block for block in blocks if isinstance(block, TextBlock)])
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.input, ensure_ascii=False),
                },
            }
            for call in calls
        ]
    return message


def _no_result(waiting: Sequence[str], place: str) -> ApiError:
    return bad_request(
        f"{place}: {', '.join(map(repr, waiting))} has no tool_result: send one for each tool_use "
        "at the beginning of the user's next message",
        place,
    )
