"""How an answer looks to a client: OpenAI's objects, whole or in chunks, with who wrote what.

Every choice has a `taketurns` object. Whole: `seed`, `exact` and the `patches`. In a stream: the
`speaker` of each piece, every `patch` when it is complete, `seed` and `exact` with the last chunk.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import time
from typing import Any

from taketurns.checkpoints.text import REPLACEMENT, TextCodec
from taketurns.runs.records import patch_to_json
from taketurns.server.jobs import AnyRequest, CompletionJob
from taketurns.types import Delta, Patch, Token, Trace

Json = dict[str, Any]

_DEEP = 5  # response, choices, choice, log-probabilities, their tokens
_LEAST = -9999.0  # JSON has no minus infinity
_FINISH = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "guard": "content_filter",
    None: "stop",
}


class Style(ABC):
    """One of the two ways the API writes answers down; `many_prompts` says that each choice may
    have a prompt of its own."""

    object: str
    chunk: str
    prefix: str
    many_prompts: bool

    @abstractmethod
    def opening(self) -> Json:
        """What a stream's first chunk says of a choice."""

    @abstractmethod
    def piece(self, text: str) -> Json:
        """A piece of text in a chunk."""

    @abstractmethod
    def whole(self, text: str) -> Json:
        """A whole answer."""

    @abstractmethod
    def logprobs(self, weighed: Sequence[Weighed]) -> Json:
        """Tokens with their log-probabilities."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A token with its text, and where in the answer the text that it appeared with begins."""

    token: Token
    text: str
    at: int
    top: tuple[tuple[str, float], ...]


class ChatStyle(Style):
    """/v1/chat/completions."""

    object, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    many_prompts = False

    def opening(self) -> Json:
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}

    def whole(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, weighed: Sequence[Weighed]) -> Json:
        return {
            "content": [
                {
                    **_spelled(one.text, one.token.logprob),
                    "top_logprobs": [_spelled(text, logprob) for text, logprob in one.top],
                }
                for one in weighed
            ],
            "refusal": None,
        }


class TextStyle(Style):
    """/v1/completions."""

    object, chunk, prefix = "text_completion", "text_completion", "cmpl"
    many_prompts = True

    def opening(self) -> Json:
        return {"text": ""}

    def piece(self, text: str) -> Json:
        return {"text": text}

    def whole(self, text: str) -> Json:
        return {"text": text}

    def logprobs(self, weighed: Sequence[Weighed]) -> Json:
        return {
            "tokens": [one.text for one in weighed],
            "token_logprobs": [one.token.logprob for one in weighed],
            "top_logprobs": [dict(one.top) for one in weighed],
            "text_offset": [one.at for one in weighed],
        }


class Choice:
    """One answer on its way to a client. `ids` says whether it gets token ids."""

    def __init__(self, order: CompletionJob, style: Style, *, ids: bool) -> None:
        self.order = order
        self.patches: list[Json] = []
        self.text = ""
        self.first_speaker: int | None = None
        self.trace: Trace | None = None
        self._style = style
        self._ids = ids
        self._token_ids: list[int] = []
        self._weighed: list[Weighed] = []
        self._patch_starts = 0

    # What happens to it

    def opening(self) -> Json:
        """The first chunk's choice."""
        return self._choice(self._style.opening())

    def piece(self, delta: Delta) -> Json:
        """Take a piece of text in; returns a chunk's choice."""
        weighed = [self._weigh(delta.speaker, token) for token in delta.tokens]
        ids = [token.id for token in delta.tokens if token.id is not None]
        self.text += delta.text
        self._weighed += weighed
        self._token_ids += ids
        if self.first_speaker is None:
            self.first_speaker = delta.speaker
        name = None if delta.speaker is None else self.order.speakers[delta.speaker]
        turns = {"speaker": delta.speaker, "name": name, "tokens": len(delta.tokens)}
        return self._choice(self._style.piece(delta.text), weighed, ids, turns)

    def patch(self, patch: Patch) -> Json:
        """Take a complete patch in; returns a chunk's choice."""
        forced = list(patch.token_ids) if patch.speaker is None else []
        self._token_ids += forced
        if self.first_speaker is None:
            self.first_speaker = patch.speaker
        record = patch_to_json(patch, self.order.speakers)
        if not self._ids:
            del record["token_ids"]
        record["tokens"] = len(patch.token_ids)
        record["span"] = [self._patch_starts, self._patch_starts + len(patch.text)]
        self._patch_starts += len(patch.text)
        self.patches.append(record)
        return self._choice(self._style.piece(""), [], forced, {"patch": record})

    def end(self, trace: Trace) -> Json:
        """The answer is written; returns the last chunk's choice."""
        self.trace = trace
        return self._choice(self._style.piece(""), [], [], self._about(trace), trace)

    # What it comes to

    def whole(self) -> Json:
        """The choice of a whole answer."""
        assert self.trace is not None, "end() before whole()"
        about = {**self._about(self.trace), "patches": self.patches}
        content = self._style.whole(self.text)
        return self._choice(content, self._weighed, self._token_ids, about, self.trace)

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids that the first speaker continued."""
        return self.order.prompts[self.first_speaker or 0]

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    @property
    def completion_tokens(self) -> int:
        """Tokens that were sampled; forced ones are not counted."""
        return sum(patch["tokens"] for patch in self.patches if patch["speaker"] is not None)

    def so_far(self) -> Json:
        """What was written of an answer that broke off."""
        return {"index": self.order.index, "text": self.text, "patches": self.patches}

    def _about(self, trace: Trace) -> Json:
        return {"seed": trace.seed, "exact": trace.exact}

    def _choice(
        self,
        content: Json,
        weighed: Sequence[Weighed] = (),
        ids: Sequence[int] = (),
        turns: Json | None = None,
        trace: Trace | None = None,
    ) -> Json:
        choice: Json = {"index": self.order.index, **content}
        wanted = self.order.logprobs is not None
        choice["logprobs"] = self._style.logprobs(weighed) if wanted and weighed else None
        choice["finish_reason"] = None if trace is None else _FINISH[trace.finish]
        if self._ids:
            choice["token_ids"] = list(ids)
        if turns is not None:
            choice["taketurns"] = turns
        return choice

    def _weigh(self, speaker: int | None, token: Token) -> Weighed:
        assert speaker is not None, "forced text is not sampled"
        if self.order.logprobs is None or token.id is None:
            return Weighed(token, "", len(self.text), ())
        codec = self.order.codecs[speaker]
        top = tuple((_text(codec, other), max(p, _LEAST)) for other, p in token.top)
        text = _text(codec, token.id)
        if token.logprob is not None:
            token = replace(token, logprob=max(token.logprob, _LEAST))
        return Weighed(token, text, len(self.text), top)


class Reply:
    """A request's response as a JSON object, or in chunks."""

    def __init__(
        self,
        identifier: str,
        model: str,
        orders: Sequence[CompletionJob],
        asked: AnyRequest,
        style: Style,
    ) -> None:
        self._ids = bool(asked.return_token_ids)
        self._usage = asked.with_usage
        self._style = style
        self._head = {"id": f"{style.prefix}-{identifier}", "created": int(time()), "model": model}
        self.choices = [Choice(order, style, ids=self._ids) for order in orders]

    def opening(self) -> bytes:
        """The first chunks of a stream, one a choice."""
        return b"".join(self._chunk(choice.opening()) for choice in self.choices)

    def event(self, index: int, event: Delta | Patch | Trace) -> bytes:
        """The chunk that tells of an event."""
        choice = self.choices[index]
        begins = self._ids and choice.first_speaker is None
        told = self.take(index, event)
        if not begins:
            return self._chunk(told)
        prompt = {"prompt_token_ids": list(choice.prompt)}
        if self._style.many_prompts:
            return self._chunk(told | prompt)
        return self._chunk(told, prompt)

    def take(self, index: int, event: Delta | Patch | Trace) -> Json:
        """Take an event in; returns what a chunk says of its choice."""
        choice = self.choices[index]
        if isinstance(event, Delta):
            return choice.piece(event)
        return choice.patch(event) if isinstance(event, Patch) else choice.end(event)

    def closing(self) -> bytes:
        """The last of a stream."""
        done = b"data: [DONE]\n\n"
        if not self._usage:
            return done
        last = {**self._head, "object": self._style.chunk, "choices": [], "usage": self.usage()}
        return as_event(last) + done

    def whole(self) -> Json:
        """The response in one piece, once every choice has ended."""
        reply = {
            **self._head,
            "object": self._style.object,
            "choices": [self._with_prompt(choice) for choice in self.choices],
            "usage": self.usage(),
        }
        if self._ids and not self._style.many_prompts:
            reply["prompt_token_ids"] = list(self.choices[0].prompt)
        return reply

    def encoded(self) -> bytes:
        """`whole` as JSON. It may take seconds, so it belongs in a thread. Raises ValueError for
        NaN and infinity."""
        return _in_parts(self.whole(), _DEEP).encode()

    def usage(self) -> Json:
        """Tokens read and written. A prompt counts once however many choices it has, as its first
        speaker read it."""
        prompt = sum(choice.prompt_tokens for choice in self.choices if choice.order.first)
        written = sum(choice.completion_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }

    def so_far(self) -> Json:
        """What was written before it broke off."""
        return {"taketurns": {"choices": [choice.so_far() for choice in self.choices]}}

    def _with_prompt(self, choice: Choice) -> Json:
        whole = choice.whole()
        if self._ids and self._style.many_prompts:
            whole["prompt_token_ids"] = list(choice.prompt)
        return whole

    def _chunk(self, choice: Json, more: Json | None = None) -> bytes:
        chunk = {**self._head, "object": self._style.chunk, "choices": [choice], **(more or {})}
        if self._usage:
            chunk["usage"] = None
        return as_event(chunk)


def as_event(data: Json) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def _in_parts(value: Any, depth: int) -> str:
    """JSON of a value, made in parts so many levels down: while the library makes one, no other
    thread runs."""
    if depth and isinstance(value, dict):
        items = (f"{_json(key)}:{_in_parts(part, depth - 1)}" for key, part in value.items())
        return "{" + ",".join(items) + "}"
    if depth and isinstance(value, list):
        return "[" + ",".join(_in_parts(part, depth - 1) for part in value) + "]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _text(codec: TextCodec, token: int) -> str:
    """A token by itself; a control token by its name."""
    if codec.is_control(token):
        return str(codec.tokenizer.convert_ids_to_tokens(token))
    return codec.decode([token])


def _spelled(text: str, logprob: float | None) -> Json:
    """A token in OpenAI's chat format; no bytes where it is only part of a character."""
    spelled = None if REPLACEMENT in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": spelled}
