"""Requests to the Responses API as chat requests, which jobs are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from taketurns.server.errors import ApiError, bad_request
from taketurns.server.field_places import Places
from taketurns.server.openai_responses.schemas import (
    CallItem,
    MessageItem,
    ResponsesRequest,
    ResultItem,
    text_of,
)
from taketurns.server.openai_responses.store import ResponseStore
from taketurns.server.schemas import ChatRequest

PLACES: Places = (  # where these requests have what chat requests have elsewhere
    (re.compile(r"\btools\.(\d+)\.function\."), r"tools.\1."),
    (re.compile(r"\btool_choice\.function\."), "tool_choice."),
    (re.compile(r"\bresponse_format(\.json_schema)?\b"), "text.format"),
    (re.compile(r"\bmax_completion_tokens\b"), "max_output_tokens"),
)
JsonObject = dict[str, Any]


def conversation(body: ResponsesRequest, store: ResponseStore) -> list[JsonObject]:
    """The messages of a request, those before a previous response included. Raises ApiError."""
    messages: list[JsonObject] = []
    if body.previous_response_id is not None:
        messages = store.messages(body.previous_response_id)
    if isinstance(body.input, str):
        items: Sequence[Any] = [MessageItem(role="user", content=body.input)]
    else:
        items = body.input
    waiting = _waiting(messages)
    for index, item in enumerate(items):
        place = f"input.{index}"
        if isinstance(item, CallItem):
            _add_call(item, messages, place)
            waiting = _waiting(messages)
        elif isinstance(item, ResultItem):
            if item.call_id not in waiting:
                raise bad_request(
                    f"{place}.call_id is {item.call_id!r}, which is no function_call that waits "
                    "for its output: send the output after its call, before any other message",
                    f"{place}.call_id",
                )
            waiting.remove(item.call_id)
            output = text_of(item.output)
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
        elif isinstance(item, MessageItem):
            if waiting:
                raise _no_output(waiting, place)
            messages.append({"role": item.role, "content": item.text})
    if waiting:
        raise _no_output(waiting, "input")
    if not messages:
        raise bad_request("input must have a message: add one", "input")
    return messages


def chat_request(body: ResponsesRequest, messages: Sequence[JsonObject]) -> ChatRequest:
    """The same request in the form of chat completions."""
    turns = list(messages)
    if body.instructions:
        turns.insert(0, {"role": "system", "content": body.instructions})
    fields: JsonObject = {
        "model": body.model,
        "messages": turns,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "parallel_tool_calls": body.parallel_tool_calls,
        "stream": body.stream,
        "seed": body.seed,
        "taketurns": body.taketurns,
        "reasoning_effort": None if body.reasoning is None else body.reasoning.effort,
        "response_format": _format(body),
        "tool_choice": body.tool_choice,
    }
    if body.tools:
        keys = ("name", "description", "parameters")
        fields["tools"] = [
            {"type": "function", "function": {key: getattr(tool, key) for key in keys}}
            for tool in body.tools
        ]
    if body.tool_choice is not None and not isinstance(body.tool_choice, str):
        fields["tool_choice"] = {"type": "function", "function": {"name": body.tool_choice.name}}
    return ChatRequest.model_validate(fields)


def _format(body: ResponsesRequest) -> JsonObject | None:
    asked = None if body.text is None else body.text.format
    if asked is None:
        return None
    if asked.type != "json_schema":
        return {"type": asked.type}
    schema = {"name": asked.name, "schema": asked.schema_}
    return {"type": "json_schema", "json_schema": schema}


def _add_call(item: CallItem, messages: list[JsonObject], place: str) -> None:
    """Add a call to the assistant's turn that is under way, or begin one. Raises ApiError."""
    if item.call_id in _waiting(messages):
        raise bad_request(
            f"{place}.call_id {item.call_id!r} is there twice: give each call its own",
            f"{place}.call_id",
        )
    try:
        given = json.loads(item.arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        place = f"{place}.arguments"
        raise bad_request(f'{place} must be a JSON object, as in {{"a": 1}}', place)
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    calls = messages[-1].setdefault("tool_calls", [])
    function = {"name": item.name, "arguments": item.arguments}
    calls.append({"id": item.call_id, "type": "function", "function": function})


def _waiting(messages: Sequence[JsonObject]) -> list[str]:
    """The ids of the calls that have no output yet."""
    done = set()
    for message in reversed(messages):
        if message["role"] == "tool":
            done.add(message["tool_call_id"])
            continue
        calls = message.get("tool_calls") or ()
        return [call["id"] for call in calls if call["id"] not in done]
    return []


def _no_output(waiting: Sequence[str], place: str) -> ApiError:
    return bad_request(
        f"{place}: {', '.join(map(repr, waiting))} has no function_call_output: send one for each "
        "function_call before any other message",
        place,
    )
