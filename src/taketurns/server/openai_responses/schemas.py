"""The bodies of requests to the Responses API, checked as strictly as the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from taketurns.server.compatibility import (
    NOT_SUPPORTED,
    Absent,
    Name,
    NoList,
    NoObject,
    Off,
    Zero,
)
from taketurns.server.schema_base import MAX_LIST, Request, Strict, Text
from taketurns.server.schemas import Effort, Seed, TurnOptions
from taketurns.server.tool_schemas import (
    MAX_TOOLS,
    FunctionDefinition,
    FunctionName,
    JsonObject,
)

CallId = Annotated[Text, Field(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


class TextContent(Strict):
    """Text of a message."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: NoList = None
    logprobs: NoList = None


class OtherContent(BaseModel):
    """Content of a kind that no team can read."""

    type: Annotated[Literal["input_text", "output_text"], NOT_SUPPORTED]


def _content_kind(part: Any) -> str:
    return "text" if _type(part) in ("input_text", "output_text", "text") else "other"


Content = Annotated[
    list[
        Annotated[
            Annotated[TextContent, Tag("text")] | Annotated[OtherContent, Tag("other")],
            Discriminator(_content_kind),
        ]
    ],
    Field(max_length=MAX_LIST, fail_fast=True),
]


class _Item(Strict):
    """What an item has that was given before."""

    id: Name | None = None
    status: Status | None = None


class MessageItem(_Item):
    """A turn of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Content
    phase: Literal["commentary", "final_answer"] | None = None

    @property
    def text(self) -> str:
        return text_of(self.content)


class CallItem(_Item):
    """A call that the assistant made; `arguments` is JSON."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Text
    caller: dict[str, Any] | None = None
    namespace: Absent = None


class ResultItem(_Item):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Text | Content
    caller: dict[str, Any] | None = None


class ReasoningItem(BaseModel):
    """What a model thought before; it is left out of the prompt, as it is there."""

    type: Literal["reasoning"]


class OtherItem(BaseModel):
    """An item of a kind that no team can read."""

    type: Annotated[
        Literal["message", "function_call", "function_call_output", "reasoning"], NOT_SUPPORTED
    ]


def _item_kind(item: Any) -> str:
    kind = _type(item) or "message"
    return kind if kind in ("message", *_KINDS) else "other"


_KINDS = ("function_call", "function_call_output", "reasoning")
Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_item_kind),
]


class FunctionTool(FunctionDefinition):
    """A function; the fields of its own concern how others' servers find and call it."""

    type: Literal["function"]
    allowed_callers: list[Name] | None = None
    defer_loading: Off = None
    output_schema: JsonObject | None = None


class OtherTool(BaseModel):
    """A tool that OpenAI's own servers run, or that is no function."""

    type: Annotated[Literal["function"], NOT_SUPPORTED]


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[OtherTool, Tag("other")],
    Discriminator(lambda tool: "function" if _type(tool) == "function" else "other"),
]


class NamedTool(Strict):
    """The function that must be called."""

    unsupported = frozenset(("mode", "tools", "server_label"))
    type: Literal["function"]
    name: FunctionName


class TextFormat(Strict):
    """What the text of the answer is."""

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: Text | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(Strict):
    """How the answer's text is written."""

    format: TextFormat | None = None
    verbosity: Annotated[Literal["medium"] | None, NOT_SUPPORTED] = None


class ReasoningOptions(Strict):
    """`effort` is handed to chat templates."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(Strict):
    """What a stream has beside the answer."""

    include_obfuscation: bool | None = None


class ResponsesRequest(Request):
    """POST /v1/responses. `seed` and `taketurns` are as in the other requests for answers."""

    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)]
    model: Text | None = None
    instructions: Text | None = None
    previous_response_id: Name | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextOptions | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    seed: Seed | None = None
    taketurns: TurnOptions | None = None

    include: Annotated[
        Annotated[
            list[Literal["reasoning.encrypted_content"]], Field(max_length=16, fail_fast=True)
        ]
        | None,
        NOT_SUPPORTED,
    ] = None
    max_tool_calls: int | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Name | None = None
    safety_identifier: Name | None = None
    service_tier: Name | None = None
    user: Name | None = None
    access_programs: NoObject = None
    background: Off = None
    background_options: NoObject = None
    context_management: NoList = None
    conversation: Absent = None
    image: NoObject = None
    moderation: NoObject = None
    prompt: Absent = None
    top_logprobs: Zero = None
    truncation: Annotated[Literal["disabled"] | None, NOT_SUPPORTED] = None


def text_of(content: str | list[Any]) -> str:
    """The text of a message's content."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _type(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
