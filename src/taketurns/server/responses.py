"""Answers as OpenAI's objects, whole or in chunks, with who wrote what.

Every choice has a `taketurns` object. Whole: `seed`, `exact` and the `patches`. In a stream: the
`speaker` of each piece, every `patch` when it is complete, `seed` and `exact` with the last chunk,
which has what a whole answer has beside its choice, too.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import time
from typing import Any

from taketurns.checkpoints.text import REPLACEMENT, TextCodec
from taketurns.runs.records import patch_to_json
from taketurns.server.echo import Echo, EndToken
from taketurns.server.errors import ApiError
from taketurns.server.jobs import AnyRequest, CompletionJob
from taketurns.server.tool_output import ToolOutput
from taketurns.types import Delta, Patch, Token, Trace

JsonObject = dict[str, Any]
AnswerEvent = Echo | Delta | Patch | EndToken | Trace

_PART_DEPTH = 5  # response, choices, choice, log-probabilities, their tokens
_MIN_LOGPROB = -9999.0  # JSON has no minus infinity
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "guard": "content_filter",
    None: "stop",
}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token as text, with the `top` alternatives (None for the first of a prompt, which has
    none); `offset` is where in the choice the text that it came with begins, in characters."""

    text: str
    logprob: float | None
    offset: int
    top: tuple[tuple[str, float], ...] | None

    @property
    def by_text(self) -> dict[str, float] | None:
        """The alternatives and the token itself, as completions have them. Of several with the
        same text the most probable counts."""
        if self.top is None:
            return None
        named: dict[str, float] = {}
        for text, logprob in self.top:
            named.setdefault(text, logprob)
        if self.logprob is not None:
            named.setdefault(self.text, self.logprob)
        return named


class ResponseStyle(ABC):
    """One of the two shapes that the API gives an answer; `many_prompts` says that each choice may
    have a prompt of its own."""

    object: str
    chunk: str
    prefix: str
    many_prompts: bool

    @abstractmethod
    def opening(self) -> JsonObject:
        """A choice in the first chunk of a stream."""

    @abstractmethod
    def piece(self, text: str) -> JsonObject:
        """A piece of text in a chunk."""

    @abstractmethod
    def whole(self, text: str) -> JsonObject:
        """A whole answer."""

    @abstractmethod
    def logprobs(self, tokens: Sequence[TokenLogprob]) -> JsonObject:
        """Tokens with their log-probabilities."""


class ChatStyle(ResponseStyle):
    """/v1/chat/completions."""

    object, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    many_prompts = False

    def opening(self) -> JsonObject:
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, text: str) -> JsonObject:
        return {"delta": {"content": text} if text else {}}

    def whole(self, text: str) -> JsonObject:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> JsonObject:
        return {
            "content": [
                {
                    **_chat_token(token.text, token.logprob),
                    "top_logprobs": [_chat_token(*alternative) for alternative in token.top or ()],
                }
                for token in tokens
            ],
            "refusal": None,
        }


class TextStyle(ResponseStyle):
    """/v1/completions."""

    object, chunk, prefix = "text_completion", "text_completion", "cmpl"
    many_prompts = True

    def opening(self) -> JsonObject:
        return self.piece("")

    def piece(self, text: str) -> JsonObject:
        return {"text": text}

    def whole(self, text: str) -> JsonObject:
        return self.piece(text)

    def logprobs(self, tokens: Sequence[TokenLogprob]) -> JsonObject:
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [token.by_text for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }


class ChoiceBuilder:
    """Collects the events of one answer and renders them as a choice; `with_ids` adds token ids."""

    def __init__(self, job: CompletionJob, style: ResponseStyle, *, with_ids: bool) -> None:
        self.job = job
        reader = None if job.tools is None else job.tools.reader()
        self._tools = None if reader is None else ToolOutput(reader)
        self.first_speaker: int | None = None
        self._style = style
        self._with_ids = with_ids
        self._text = ""
        self._patches: list[JsonObject] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._patch_starts = 0
        self.tokens_so_far = 0
        self._trace: Trace | None = None

    def opening(self) -> JsonObject:
        """The choice in the first chunk."""
        return self._choice(self._style.opening())

    def add(self, event: AnswerEvent) -> JsonObject:
        """Take an event in; returns the choice in its chunk."""
        if isinstance(event, Trace):
            self._trace = event
            self.rest()
            return self._choice(self._style.piece(""), extension=_about(event), trace=event)
        if isinstance(event, Echo | EndToken):
            logprobs = self._unwritten(event)
            self._logprobs += logprobs
            text = event.text if isinstance(event, Echo) else ""
            self._text += text
            if self._tools is not None:
                self._tools.put(text)
            return self._choice(self._style.piece(text), logprobs)
        if self.first_speaker is None:
            self.first_speaker = event.speaker
        return self._add_delta(event) if isinstance(event, Delta) else self._add_patch(event)

    def _add_delta(self, delta: Delta) -> JsonObject:
        logprobs = [self._logprob(delta.speaker, token) for token in delta.tokens]
        ids = [token.id for token in delta.tokens if token.id is not None]
        self._text += delta.text
        self._logprobs += logprobs
        self._token_ids += ids
        self.tokens_so_far += len(delta.tokens)
        name = None if delta.speaker is None else self.job.speakers[delta.speaker]
        extension = {"speaker": delta.speaker, "name": name, "tokens": len(delta.tokens)}
        return self._choice(self._piece(delta.text), logprobs, ids, extension)

    def _add_patch(self, patch: Patch) -> JsonObject:
        forced_ids = list(patch.token_ids) if patch.speaker is None else []
        self._token_ids += forced_ids
        record = patch_to_json(patch, self.job.speakers)
        if not self._with_ids:
            del record["token_ids"]
        record["tokens"] = len(patch.token_ids)
        record["span"] = [self._patch_starts, self._patch_starts + len(patch.text)]
        self._patch_starts += len(patch.text)
        self._patches.append(record)
        return self._choice(self._style.piece(""), ids=forced_ids, extension={"patch": record})

    def rest(self) -> JsonObject | None:
        """The choice of a chunk with what was held back until it was clear that it is no call;
        None for nothing."""
        delta = None if self._tools is None else self._tools.close()
        return self._choice({"delta": delta}) if delta else None

    def is_complete(self, identifier: str) -> bool:
        """Whether the call with this id is complete."""
        return self._tools is not None and self._tools.is_complete(identifier)

    def _piece(self, text: str) -> JsonObject:
        """A piece of the answer's text in a chunk."""
        return {"delta": self._tools.push(text)} if self._tools else self._style.piece(text)

    def whole(self) -> JsonObject:
        """The choice of a whole answer, whose trace has been added."""
        extension = self._extension()
        content = self._style.whole(self._text)
        if self._tools is not None:
            content = {"message": self._tools.message()}
        return self._choice(content, self._logprobs, self._token_ids, extension, self._trace)

    def ending(self) -> JsonObject:
        """What the last chunk of a stream says beside its choice: what a whole answer would.
        Proxies drop the fields of a choice there, and the chunks without text that the patches are
        in."""
        return {"index": self.job.index, **self._extension()}

    def _extension(self) -> JsonObject:
        assert self._trace is not None, "the answer has not ended"
        return {**_about(self._trace), "patches": self._patches}

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids that the first speaker continued."""
        return self.job.prompt_of(self.first_speaker)

    @property
    def completion_tokens(self) -> int:
        """Tokens that were sampled; forced ones are not counted."""
        return sum(patch["tokens"] for patch in self._patches if patch["speaker"] is not None)

    def partial(self) -> JsonObject:
        """What was written of an answer that failed."""
        return {"index": self.job.index, "text": self._text, "patches": self._patches}

    def _choice(
        self,
        content: JsonObject,
        logprobs: Sequence[TokenLogprob] = (),
        ids: Sequence[int] = (),
        extension: JsonObject | None = None,
        trace: Trace | None = None,
    ) -> JsonObject:
        choice: JsonObject = {"index": self.job.index, **content}
        wanted = self.job.logprobs is not None
        choice["logprobs"] = self._style.logprobs(logprobs) if wanted and logprobs else None
        finish = None if trace is None else _FINISH_REASONS[trace.finish]
        if finish == "stop" and self._tools is not None and self._tools.called:
            finish = "tool_calls"
        choice["finish_reason"] = "length" if finish and not self.job.writes else finish
        if self._with_ids:
            choice["token_ids"] = list(ids)
        if extension is not None:
            choice["taketurns"] = extension
        return choice

    def _logprob(self, speaker: int | None, token: Token) -> TokenLogprob:
        assert speaker is not None, "forced text is not sampled"
        offset = len(self._text)
        if self.job.logprobs is None or token.id is None:
            return TokenLogprob("", token.logprob, offset, ())
        return self._named(speaker, token, offset)

    def _unwritten(self, event: Echo | EndToken) -> list[TokenLogprob]:
        """The tokens of a prompt that goes before the answer, or the one after it."""
        if isinstance(event, EndToken):
            return [self._named(0, event.token, len(self._text))]
        stream, offset, named = self.job.codecs[0].stream(), 0, []
        for token in event.tokens:
            assert token.id is not None, "an engine that scores prompts knows their tokens"
            named.append(self._named(0, token, offset))
            offset += len(stream.push(token.id))
        return [replace(named[0], top=None), *named[1:]] if named else []

    def _named(self, speaker: int, token: Token, offset: int) -> TokenLogprob:
        assert token.id is not None, "a token without an id has no name"
        names = tuple((self._name(speaker, i), max(p, _MIN_LOGPROB)) for i, p in token.top)
        logprob = None if token.logprob is None else max(token.logprob, _MIN_LOGPROB)
        return TokenLogprob(self._name(speaker, token.id), logprob, offset, names)

    def _name(self, speaker: int, token: int) -> str:
        if not self.job.names_tokens:
            return f"token_id:{token}"
        return _token_text(self.job.codecs[speaker], token)


class AnswerBuilder(ABC):
    """Renders a request's response in the form of an API, as a JSON object or in a stream."""

    @abstractmethod
    def opening(self) -> bytes:
        """The beginning of a stream."""

    @abstractmethod
    def add(self, index: int, event: AnswerEvent) -> JsonObject:
        """Take an event of choice `index` in; returns the choice in its chunk."""

    @abstractmethod
    def event(self, index: int, event: AnswerEvent) -> bytes:
        """Take an event of choice `index` in; returns what a stream says of it."""

    @abstractmethod
    def closing(self) -> bytes:
        """The end of a stream."""

    @abstractmethod
    def encoded(self) -> bytes:
        """The response in one piece, once every choice has ended, as JSON. It may take seconds, so
        it belongs in a thread. Raises ValueError for NaN and infinity."""

    @abstractmethod
    def partial(self) -> JsonObject:
        """What was written of a response that failed."""

    @abstractmethod
    def error_event(self, error: ApiError) -> bytes:
        """The end of a stream that failed."""


MakeBuilder = Callable[[str, str, Sequence[CompletionJob]], AnswerBuilder]
"""Makes the builder of a response with this id, of this model, for these jobs."""


class ResponseBuilder(AnswerBuilder):
    """Renders a response as OpenAI's completions."""

    def __init__(
        self,
        identifier: str,
        model: str,
        jobs: Sequence[CompletionJob],
        request: AnyRequest,
        style: ResponseStyle,
    ) -> None:
        self._with_ids = bool(request.return_token_ids)
        self._with_usage = request.with_usage
        self._with_usage_so_far = request.with_usage_so_far
        self._style = style
        self._head = {"id": f"{style.prefix}-{identifier}", "created": int(time()), "model": model}
        self._choices = [ChoiceBuilder(job, style, with_ids=self._with_ids) for job in jobs]

    def opening(self) -> bytes:
        return b"".join(self._chunk(choice, choice.opening()) for choice in self._choices)

    def add(self, index: int, event: AnswerEvent) -> JsonObject:
        return self._choices[index].add(event)

    def event(self, index: int, event: AnswerEvent) -> bytes:
        builder = self._choices[index]
        is_first = self._with_ids and builder.first_speaker is None
        rest = builder.rest() if isinstance(event, Trace) else None
        before = b"" if rest is None else self._chunk(builder, rest)
        choice = self.add(index, event)
        more: JsonObject = {}
        if is_first and not isinstance(event, Echo | EndToken):
            prompt = {"prompt_token_ids": list(builder.prompt)}
            (choice if self._style.many_prompts else more).update(prompt)
        if isinstance(event, Trace):
            more["taketurns"] = builder.ending()
        return before + self._chunk(builder, choice, more)

    def closing(self) -> bytes:
        done = b"data: [DONE]\n\n"
        if not self._with_usage:
            return done
        usage = {**self._head, "object": self._style.chunk, "choices": [], "usage": self._usage()}
        return server_sent_event(usage) + done

    def whole(self) -> JsonObject:
        """The response in one piece, once every choice has ended."""
        choices = [choice.whole() for choice in self._choices]
        response = {
            **self._head,
            "object": self._style.object,
            "choices": choices,
            "usage": self._usage(),
        }
        if self._with_ids and self._style.many_prompts:
            for choice, builder in zip(choices, self._choices, strict=True):
                choice["prompt_token_ids"] = list(builder.prompt)
        elif self._with_ids:
            response["prompt_token_ids"] = list(self._choices[0].prompt)
        return response

    def encoded(self) -> bytes:
        return encode_json(self.whole(), _PART_DEPTH)

    def error_event(self, error: ApiError) -> bytes:
        return server_sent_event(error.body())

    def partial(self) -> JsonObject:
        return {"taketurns": {"choices": [choice.partial() for choice in self._choices]}}

    def _usage(self) -> JsonObject:
        """Tokens read and written. A prompt counts once however many choices it has, as its first
        speaker read it."""
        read = sum(len(choice.prompt) for choice in self._choices if choice.job.counts_prompt)
        written = sum(choice.completion_tokens for choice in self._choices)
        return _usage(read, written)

    def _chunk(
        self, builder: ChoiceBuilder, choice: JsonObject, more: JsonObject | None = None
    ) -> bytes:
        chunk = {**self._head, "object": self._style.chunk, "choices": [choice], **(more or {})}
        if self._with_usage_so_far:
            chunk["usage"] = _usage(len(builder.prompt), builder.tokens_so_far)
        elif self._with_usage:
            chunk["usage"] = None
        return server_sent_event(chunk)


def server_sent_event(data: JsonObject, name: str | None = None) -> bytes:
    """A server-sent event. Raises ValueError for NaN and infinity."""
    named = b"" if name is None else f"event: {name}\n".encode()
    return (
        named + b"data: " + json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"
    )


def _usage(read: int, written: int) -> JsonObject:
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def _about(trace: Trace) -> JsonObject:
    return {"seed": trace.seed, "exact": trace.exact}


def encode_json(value: Any, depth: int) -> bytes:
    """A value as JSON, encoded in parts down to `depth`. Raises ValueError for NaN and infinity."""
    return _encode(value, depth).encode()


def _encode(value: Any, depth: int) -> str:
    """A value as JSON, encoded in parts down to `depth`: no other thread runs while the library
    encodes one."""
    if depth and isinstance(value, dict):
        items = (f"{_json(key)}:{_encode(part, depth - 1)}" for key, part in value.items())
        return "{" + ",".join(items) + "}"
    if depth and isinstance(value, list):
        return "[" + ",".join(_encode(part, depth - 1) for part in value) + "]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _token_text(codec: TextCodec, token: int) -> str:
    """A token by itself; a control token by its name."""
    if codec.is_control(token):
        return str(codec.tokenizer.convert_ids_to_tokens(token))
    return codec.decode([token])


def _chat_token(text: str, logprob: float | None) -> JsonObject:
    """A token in OpenAI's chat format; no bytes where it is only part of a character."""
    encoded = None if REPLACEMENT in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": encoded}
