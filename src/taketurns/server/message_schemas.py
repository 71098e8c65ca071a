"""The messages of a conversation in a request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taketurns.server.compatibility import Absent, NoList, NoText
from taketurns.server.schema_base import MAX_LIST, Strict, Text
from taketurns.server.tool_schemas import CalledFunction, CallEntry


class TextPart(Strict):
    """A piece of a message."""

    unsupported = frozenset(("image_url", "input_audio", "file", "video_url", "audio_url"))
    type: Literal["text"]
    text: Text


Parts = Annotated[list[TextPart], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)]
Calls = Annotated[list[CallEntry], Field(max_length=MAX_LIST, fail_fast=True)]


class ChatMessage(Strict):
    """One turn. `developer` is read as `system`; a last turn of the assistant is continued. An
    assistant's `tool_calls` are answered by turns of `tool`, an older `function_call` by one of
    `function`. The fields after them are those of an answer sent back: they may be there, empty."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Parts | None = None
    name: Text | None = None
    tool_calls: Calls | None = None
    tool_call_id: Text | None = None
    function_call: CalledFunction | None = None
    refusal: NoText = None
    audio: Absent = None
    annotations: NoList = None
    reasoning: NoText = None
    reasoning_content: NoText = None

    @property
    def text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)]
