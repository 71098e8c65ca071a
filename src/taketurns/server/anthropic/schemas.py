"""The bodies of Anthropic's requests, checked as strictly as the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from taketurns.server.compatibility import NOT_SUPPORTED, Absent, Name, NoList
from taketurns.server.schema_base import MAX_LIST, Request, Strict, Text
from taketurns.server.schemas import Seed, Stop, TokenId, TurnOptions
from taketurns.server.tool_schemas import MAX_TOOLS, FunctionName, JsonObject

CallId = Annotated[Text, Field(min_length=1, max_length=256)]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class _Cached(Strict):
    """What a client may ask to be cached; every prompt is anyway."""

    cache_control: dict[str, Any] | None = None


class TextBlock(_Cached):
    """Text."""

    type: Literal["text"]
    text: Text
    citations: NoList = None


class ThinkingBlock(BaseModel):
    """What another model thought before; it is left out of the prompt, as it is there."""

    type: Literal["thinking", "redacted_thinking"]


class ToolUseBlock(_Cached):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: CallId
    name: FunctionName
    input: JsonObject
    caller: dict[str, Any] | None = None


class ToolResultBlock(_Cached):
    """The result of a call."""

    type: Literal["tool_result"]
    tool_use_id: CallId
    content: Text | Annotated[list[TextBlock], Field(max_length=MAX_LIST, fail_fast=True)] = ""
    is_error: bool | None = None

    @property
    def text(self) -> str:
        text = self.content if isinstance(self.content, str) else joined(self.content)
        return f"Error: {text}" if self.is_error else text


class OtherBlock(BaseModel):
    """A block of a kind that no team can read."""

    type: Annotated[Literal["text", "thinking", "tool_use", "tool_result"], NOT_SUPPORTED]


_KINDS = ("text", "tool_use", "tool_result")


def _kind(block: Any) -> str:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    if kind in ("thinking", "redacted_thinking"):
        return "thinking"
    return kind if kind in _KINDS else "other"


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(_kind),
]


class InputMessage(Strict):
    """One turn; turns of the same role that follow each other are one."""

    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(max_length=MAX_LIST, fail_fast=True)]

    @property
    def blocks(self) -> list[Any]:
        """Its content as blocks."""
        if isinstance(self.content, str):
            return [TextBlock(type="text", text=self.content)]
        return list(self.content)


class OtherTool(BaseModel):
    """A tool that Anthropic's own servers run, or that their models were taught."""

    type: Annotated[Literal["custom"], NOT_SUPPORTED]


class InputTool(_Cached):
    """A function; the fields after `strict` concern how others' servers find and call it."""

    name: FunctionName
    input_schema: JsonObject
    description: Text | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    allowed_callers: list[Name] | None = None
    defer_loading: Annotated[Literal[False] | None, NOT_SUPPORTED] = None
    eager_input_streaming: bool | None = None
    input_examples: NoList = None


def _tool_kind(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "function" if kind in (None, "custom") else "other"


Tool = Annotated[
    Annotated[InputTool, Tag("function")] | Annotated[OtherTool, Tag("other")],
    Discriminator(_tool_kind),
]


class ToolChoice(Strict):
    """Whether tools are called."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None


class NoThinking(Strict):
    """Thinking that is turned off."""

    type: Annotated[Literal["disabled"], NOT_SUPPORTED]


class OutputFormat(Strict):
    """A JSON schema that the text of the answer keeps to."""

    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Strict):
    """`effort` is handed to chat templates as OpenAI's `reasoning_effort`."""

    effort: Effort | None = None
    format: OutputFormat | None = None


class PromptFields(Request):
    """The fields of both requests."""

    model: Text | None = None
    messages: Annotated[
        list[InputMessage], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)
    ]
    system: Text | Annotated[list[TextBlock], Field(max_length=MAX_LIST, fail_fast=True)] = ""
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: NoThinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: Name | None = None
    workspace_id: Name | None = None


class MessagesRequest(PromptFields):
    """POST /v1/messages. `seed` and `taketurns` are as in the other requests for answers."""

    max_tokens: int = Field(ge=1)
    stop_sequences: Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: TokenId | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: Absent = None
    diagnostics: Absent = None
    inference_geo: Absent = None
    mcp_servers: NoList = None
    context_management: Absent = None
    seed: Seed | None = None
    taketurns: TurnOptions | None = None


class CountTokensRequest(PromptFields):
    """POST /v1/messages/count_tokens."""


def joined(blocks: list[TextBlock]) -> str:
    """The text of text blocks."""
    return "".join(block.text for block in blocks)
