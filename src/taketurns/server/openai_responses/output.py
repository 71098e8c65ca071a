"""Answers as OpenAI's responses, whole or as events, with who wrote what under `taketurns`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from time import time

from taketurns.server.errors import ApiError
from taketurns.server.jobs import CompletionJob
from taketurns.server.openai_responses.schemas import NamedTool, ResponsesRequest
from taketurns.server.openai_responses.store import ResponseStore, StoredResponse, as_json
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

_PART_DEPTH = 4  # response, taketurns, patches, patch
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class OpenAIResponseBuilder(AnswerBuilder):
    """Renders one answer, and stores it when it is complete. Every delta has its speaker, and the
    response `seed`, `exact` and `patches`, in `taketurns`. `history` is the conversation before
    the answer, without instructions."""

    def __init__(
        self,
        identifier: str,
        model: str,
        jobs: Sequence[CompletionJob],
        *,
        request: ResponsesRequest,
        history: Sequence[JsonObject],
        store: ResponseStore,
    ) -> None:
        # Not the request's id, which its client may choose: who knows an id can read the response.
        self._id = f"resp_{secrets.token_hex(24)}"
        (self._job,) = jobs
        self._choice = ChoiceBuilder(self._job, ChatStyle(), with_ids=False)
        self._request = request
        self._history = history
        self._store = store
        self._head = self._about(model)
        self._numbers = 0  # of the events so far
        self._items: list[JsonObject] = []
        self._open = False  # the last item is under way
        self._finish = ""

    def opening(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def add(self, index: int, event: AnswerEvent) -> JsonObject:
        choice = self._choice.add(event)
        if isinstance(event, Trace):
            self._finish = choice["finish_reason"]
        return choice

    def event(self, index: int, event: AnswerEvent) -> bytes:
        rest = self._choice.rest() if isinstance(event, Trace) else None
        choice = self.add(index, event)
        told = b""
        for piece in (rest, choice):
            if piece is not None:
                told += self._pieces(piece["delta"], piece.get("taketurns"))
        if isinstance(event, Trace):
            told += self._end()
            response = self._completed(self._items)
            told += self._event(f"response.{response['status']}", response=response)
            self._keep(response)
        return told

    def closing(self) -> bytes:
        return b""

    def encoded(self) -> bytes:
        response = self._completed(self._whole_items())
        content = encode_json(response, _PART_DEPTH)
        self._keep(response, content)
        return content

    def partial(self) -> JsonObject:
        return {"taketurns": {"choices": [self._choice.partial()]}}

    def error_event(self, error: ApiError) -> bytes:
        told = self._end()
        failed = self._response("failed", output=self._items)
        failed["error"] = {"code": error.code or "server_error", "message": error.message}
        return told + self._event("response.failed", response=failed)

    # Events

    def _event(self, kind: str, **content: object) -> bytes:
        number, self._numbers = self._numbers, self._numbers + 1
        return server_sent_event({"type": kind, "sequence_number": number, **content}, name=kind)

    def _pieces(self, delta: JsonObject, extension: JsonObject | None) -> bytes:
        """The events of a piece of text, or of calls."""
        told = b""
        more: JsonObject = {} if extension is None else {"taketurns": extension}
        if text := delta.get("content"):
            if not self._open or self._items[-1]["type"] != "message":
                told += self._begin(_message("", "in_progress"))
                told += self._event("response.content_part.added", **self._place(), part=_text(""))
            self._items[-1]["content"][0]["text"] += text
            told += self._event(
                "response.output_text.delta", **self._place(), delta=text, logprobs=[], **more
            )
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                told += self._begin(_call(call, "", "in_progress"))
            piece = call["function"]["arguments"]
            self._items[-1]["arguments"] += piece
            place = self._place(part=False)
            told += self._event(
                "response.function_call_arguments.delta", **place, delta=piece, **more
            )
        return told

    def _begin(self, item: JsonObject) -> bytes:
        told = self._end()
        empty = {**item, "content": []} if item["type"] == "message" else item
        self._items.append(item)
        self._open = True
        return told + self._event(
            "response.output_item.added", output_index=len(self._items) - 1, item=dict(empty)
        )

    def _place(self, *, part: bool = True) -> JsonObject:
        place = {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}
        return {**place, "content_index": 0} if part else place

    def _end(self) -> bytes:
        """End the item under way. A call whose arguments are no whole JSON is incomplete."""
        if not self._open:
            return b""
        self._open = False
        item = self._items[-1]
        if item["type"] == "message":
            (part,) = item["content"]
            place = self._place()
            told = self._event(
                "response.output_text.done", **place, text=part["text"], logprobs=[]
            ) + self._event("response.content_part.done", **place, part=part)
            item["status"] = "incomplete" if self._finish in _INCOMPLETE else "completed"
        else:
            item["status"] = (
                "completed" if self._choice.is_complete(item["call_id"]) else "incomplete"
            )
            told = self._event(
                "response.function_call_arguments.done",
                **self._place(part=False),
                name=item["name"],
                arguments=item["arguments"],
            )
        index = len(self._items) - 1
        return told + self._event("response.output_item.done", output_index=index, item=item)

    # The response

    def _about(self, model: str) -> JsonObject:
        """What a response says of its request."""
        body, policy = self._request, self._job.policy
        asked = body.text.format if body.text is not None else None
        choice = body.tool_choice
        return {
            "id": self._id,
            "object": "response",
            "created_at": int(time()),
            "model": model,
            "background": False,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {
                "effort": None if body.reasoning is None else body.reasoning.effort,
                "summary": None,
            },
            "store": body.store is not False,
            "temperature": policy.temperature,
            "text": {
                "format": {"type": "text"}
                if asked is None
                else asked.model_dump(by_alias=True, exclude_none=True)
            },
            "tool_choice": choice.model_dump()
            if isinstance(choice, NamedTool)
            else choice or "auto",
            "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
            "top_p": policy.speaker_top_p,
            "truncation": "disabled",
            "user": body.user,
        }

    def _response(self, status: str, **changes: object) -> JsonObject:
        plain = {"status": status, "error": None, "incomplete_details": None, "usage": None}
        return {**self._head, **plain, "output": [], **changes}

    def _completed(self, items: Sequence[JsonObject]) -> JsonObject:
        reason = _INCOMPLETE.get(self._finish)
        return self._response(
            "completed" if reason is None else "incomplete",
            incomplete_details=None if reason is None else {"reason": reason},
            output=list(items),
            usage=self._usage(),
            taketurns=self._choice.ending(),
        )

    def _whole_items(self) -> list[JsonObject]:
        message = self._choice.whole()["message"]
        calls = message.get("tool_calls", ())
        status = "completed" if self._finish not in _INCOMPLETE else "incomplete"
        items = [_message(message["content"], status)] if message["content"] or not calls else []
        items += [_call(call, call["function"]["arguments"], "completed") for call in calls]
        return items

    def _usage(self) -> JsonObject:
        read, written = len(self._choice.prompt), self._choice.tokens_so_far
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }

    def _keep(self, response: JsonObject, content: bytes | None = None) -> None:
        if self._request.store is False:
            return
        message = {k: v for k, v in self._choice.whole()["message"].items() if k != "refusal"}
        stored = StoredResponse(
            encode_json(response, _PART_DEPTH) if content is None else content,
            as_json([*self._history, message]),
        )
        self._store.keep(self._id, stored)


def _text(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(text: str, status: str) -> JsonObject:
    identifier = f"msg_{secrets.token_hex(12)}"
    return {
        "id": identifier,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [_text(text)],
    }


def _call(call: JsonObject, arguments: str, status: str) -> JsonObject:
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": arguments,
        "status": status,
    }
