"""The endpoints that stream an answer: what each is sent for a question, and what it sends back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `format` is as in `structured_outputs`, or None; `max_tokens` is of the
    answer."""

    text: str
    seed: int
    format: dict[str, Any] | None
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Event:
    """What one event of a stream says: `text` if it is one of the answer's text, the names of the
    `speakers` whose patches it reports as complete, whether the stream is `done`, and its error."""

    text: str | None = None
    speakers: tuple[str, ...] = ()
    done: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, the body of a request there (without `stream`), and the reader of an event's
    data. One that is not `any_format` takes only a JSON schema."""

    path: str
    body: Callable[[Question], dict[str, Any]]
    read: Callable[[bytes], Event]
    any_format: bool = False

    def takes(self, question: Question) -> bool:
        """Whether the question can be asked here."""
        return self.any_format or question.format is None or "json" in question.format


def _chat_body(question: Question) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": question.text}],
        "seed": question.seed,
        "max_tokens": question.max_tokens,
        "structured_outputs": question.format,
    }


def _chat_event(data: bytes) -> Event:
    if data == b"[DONE]":
        return Event(done=True)
    chunk = json.loads(data)
    if "error" in chunk:
        return Event(error=chunk["error"]["message"])
    choice = chunk["choices"][0]
    turns = choice.get("taketurns", {})
    text = choice["delta"].get("content", "") if "speaker" in turns else None
    return Event(text, (turns["patch"]["name"],) if "patch" in turns else ())


def _schema(question: Question) -> dict[str, Any] | None:
    """The format of an answer by its JSON schema."""
    if question.format is None:
        return None
    return {"type": "json_schema", "schema": question.format["json"]}


def _responses_body(question: Question) -> dict[str, Any]:
    schema = _schema(question)
    return {
        "input": question.text,
        "seed": question.seed,
        "max_output_tokens": question.max_tokens,
        "text": None if schema is None else {"format": {"name": "answer"} | schema},
    }


def _responses_event(data: bytes) -> Event:
    event = json.loads(data)
    if event["type"] == "response.output_text.delta":
        return Event(event["delta"])
    if event["type"] == "response.failed":
        return Event(error=event["response"]["error"]["message"])
    if event["type"] in ("response.completed", "response.incomplete"):
        return Event(None, _speakers(event["response"]), done=True)
    return Event()


def _messages_body(question: Question) -> dict[str, Any]:
    schema = _schema(question)
    return {
        "messages": [{"role": "user", "content": question.text}],
        "seed": question.seed,
        "max_tokens": question.max_tokens,
        "output_config": None if schema is None else {"format": schema},
    }


def _messages_event(data: bytes) -> Event:
    event = json.loads(data)
    if event["type"] == "content_block_delta":
        return Event(event["delta"]["text"])
    if event["type"] == "error":
        return Event(error=event["error"]["message"])
    if event["type"] == "message_delta":
        return Event(None, _speakers(event))
    return Event(done=event["type"] == "message_stop")


def _speakers(holder: dict[str, Any]) -> tuple[str, ...]:
    return tuple(patch["name"] for patch in holder["taketurns"]["patches"])


CHAT = Endpoint("/v1/chat/completions", _chat_body, _chat_event, any_format=True)
ENDPOINTS = (
    CHAT,
    Endpoint("/v1/responses", _responses_body, _responses_event),
    Endpoint("/v1/messages", _messages_body, _messages_event),
)
