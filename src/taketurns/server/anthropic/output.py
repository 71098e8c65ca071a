"""Answers as Anthropic's messages, whole or as events, with who wrote what under `taketurns`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taketurns.server.error_forms import anthropic_error
from taketurns.server.errors import ApiError
from taketurns.server.jobs import CompletionJob
from taketurns.server.responses import (
    AnswerBuilder,
    AnswerEvent,
    ChatStyle,
    ChoiceBuilder,
    JsonObject,
    encode_json,
    server_sent_event,
)
from taketurns.types import Trace

_PART_DEPTH = 4  # message, taketurns, patches, patch
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class MessageBuilder(AnswerBuilder):
    """Renders one answer. Every delta has its speaker, and the last event but one what a whole
    message has, in `taketurns`."""

    def __init__(self, identifier: str, model: str, jobs: Sequence[CompletionJob]) -> None:
        (self._job,) = jobs
        self._choice = ChoiceBuilder(self._job, ChatStyle(), with_ids=False)
        self._head: JsonObject = {
            "id": f"msg_{identifier}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._begun = False
        self._blocks = 0  # that were begun
        self._open: str | None = None  # the type of the block under way
        self._trace: Trace | None = None
        self._finish = ""

    def opening(self) -> bytes:
        return b""  # what the message begins with is known with the first piece

    def add(self, index: int, event: AnswerEvent) -> JsonObject:
        choice = self._choice.add(event)
        if isinstance(event, Trace):
            self._trace, self._finish = event, choice["finish_reason"]
        return choice

    def event(self, index: int, event: AnswerEvent) -> bytes:
        rest = self._choice.rest() if isinstance(event, Trace) else None
        choice = self.add(index, event)
        events = [] if self._begun else [self._start()]
        for piece in (rest, choice):
            if piece is not None:
                events += self._pieces(piece["delta"], piece.get("taketurns"))
        if isinstance(event, Trace):
            events += self._stop()
        return b"".join(server_sent_event(each, name=each["type"]) for each in events)

    def closing(self) -> bytes:
        return b""

    def encoded(self) -> bytes:
        return encode_json(self._whole(), _PART_DEPTH)

    def partial(self) -> JsonObject:
        return {"taketurns": {"choices": [self._choice.partial()]}}

    def error_event(self, error: ApiError) -> bytes:
        return server_sent_event(anthropic_error(error), name="error")

    def _start(self) -> JsonObject:
        self._begun = True
        message = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None}
        return {"type": "message_start", "message": {**message, "usage": self._usage()}}

    def _pieces(self, delta: JsonObject, extension: JsonObject | None) -> list[JsonObject]:
        """The events of a piece of text, or of calls."""
        events: list[JsonObject] = []
        if text := delta.get("content"):
            if self._open != "text":
                events += self._begin({"type": "text", "text": ""})
            events.append(self._delta({"type": "text_delta", "text": text}))
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                head = {"id": call["id"], "name": call["function"]["name"], "input": {}}
                events += self._begin({"type": "tool_use", **head})
            piece = {"type": "input_json_delta", "partial_json": call["function"]["arguments"]}
            events.append(self._delta(piece))
        if extension is not None and events:
            events[-1]["taketurns"] = extension
        return events

    def _begin(self, block: JsonObject) -> list[JsonObject]:
        events = self._end()
        self._open = block["type"]
        self._blocks += 1
        start = {"type": "content_block_start", "index": self._blocks - 1}
        return [*events, {**start, "content_block": block}]

    def _delta(self, delta: JsonObject) -> JsonObject:
        return {"type": "content_block_delta", "index": self._blocks - 1, "delta": delta}

    def _end(self) -> list[JsonObject]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": self._blocks - 1}]

    def _stop(self) -> list[JsonObject]:
        delta = {"type": "message_delta", "delta": self._reason(), "usage": self._usage()}
        delta["taketurns"] = self._choice.ending()
        return [*self._end(), delta, {"type": "message_stop"}]

    def _whole(self) -> JsonObject:
        choice = self._choice.whole()
        message = choice["message"]
        text = message["content"]
        blocks: list[JsonObject] = [{"type": "text", "text": text}] if text else []
        for call in message.get("tool_calls", ()):
            given = json.loads(call["function"]["arguments"])
            name = call["function"]["name"]
            blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": given})
        return {
            **self._head,
            "content": blocks,
            **self._reason(),
            "usage": self._usage(),
            "taketurns": choice["taketurns"],
        }

    def _reason(self) -> JsonObject:
        """Why the message ended."""
        assert self._trace is not None, "the answer has not ended"
        found = self._job.draft.stop_string
        reason = _STOP_REASONS[self._finish]
        if self._trace.finish == "context":
            reason = "model_context_window_exceeded"
        elif reason == "end_turn" and found is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": found}
        return {"stop_reason": reason, "stop_sequence": None}

    def _usage(self) -> JsonObject:
        return {
            "input_tokens": len(self._choice.prompt),
            "output_tokens": self._choice.tokens_so_far,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }
