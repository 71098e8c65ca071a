"""The fields of requests that concern tools: OpenAI's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from taketurns.server.schema_base import MAX_LIST, Strict, Text, check_values

MAX_TOOLS = 128
_MAX_DEPTH = 64  # of lists and objects in a schema


def readable(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON object of bounded size, as pydantic's validators give it back."""
    check_values(schema, MAX_LIST, _MAX_DEPTH)
    return schema


JsonObject = Annotated[dict[str, Any], AfterValidator(readable)]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


class FunctionDefinition(Strict):
    """A function; `parameters` is the JSON schema of its arguments. A call that must be made is
    held to it, `strict` or not."""

    name: FunctionName
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolDefinition(Strict):
    """A tool, which is a function."""

    unsupported = frozenset(("custom",))
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """The tool that must be called."""

    unsupported = frozenset(("custom", "allowed_tools"))
    type: Literal["function"]
    function: NamedFunction


class CalledFunction(Strict):
    """The function of a call that was made; `arguments` is JSON."""

    name: FunctionName
    arguments: Text


class CallEntry(Strict):
    """A call that was made. `index` is its place, in what was put together from a stream."""

    unsupported = frozenset(("custom",))
    id: Annotated[Text, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


Tools = Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool
