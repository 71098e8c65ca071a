"""What a request's tools come to: how its conversation is read, and how calls are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.formats import FORMATS, PLAIN
from taketurns.checkpoints.tool_calls.reading import ToolCallReader
from taketurns.checkpoints.tool_calls.records import Tool, ToolConversation, ToolTurn
from taketurns.config.policy import Policy
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.generation.formats.tool_calls import calls_format, check_parameters
from taketurns.server.conversations import conversation_query, has_tools, read_turns
from taketurns.server.errors import bad_request
from taketurns.server.schemas import ChatRequest, TokenizeRequest
from taketurns.server.tool_schemas import NamedTool, ToolDefinition
from taketurns.types import AnswerFormat, Candidate, Query

_NO_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """The `turns` of a request and the `tools` that its answer may call, of which `callable` are
    read as calls, at most `most` of them. `required`: the answer must call. `written_in` is the
    format of its calls and of those before it, None where there are neither."""

    turns: tuple[ToolTurn, ...]
    tools: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    required: bool = False
    most: int | None = None
    written_in: ToolCallFormat | None = None

    def query(self, identifier: str) -> Query:
        """The conversation as a query, with its tools as plain text."""
        return conversation_query(identifier, self.turns, self.tools, self.written_in)

    @property
    def conversation(self) -> ToolConversation | None:
        """The conversation for templates that know tools; None where it has none."""
        if self.written_in is None:
            return None
        return ToolConversation(self.turns, self.tools)

    def reader(self) -> ToolCallReader | None:
        """A reader of one answer, None where nothing in it is a call."""
        if self.written_in is None or not self.callable:
            return None
        return self.written_in.reader([tool.name for tool in self.callable], self.most)

    def answer_format(
        self, asked: AnswerFormat | None, infos: Sequence[ModelInfo]
    ) -> AnswerFormat | None:
        """What the answer of these models must be, where the text of one that calls nothing must
        be `asked`. It may take a second, so it belongs in a thread. Raises ApiError."""
        if self.written_in is None or not self.callable:
            return asked
        if not self.required and asked is None:
            return None
        if not self.required and asked is not None and asked.kind != "json":
            raise bad_request(
                f"tools with tool_choice auto beside a format of kind {asked.kind} are not "
                "supported: use a JSON schema, or leave out one of the two",
                "tools",
            )
        for info in infos:
            if "format" not in info.capabilities:
                raise bad_request(
                    f"tools: {info.name} runs on a server that cannot be held to the grammar of a "
                    'call: use tool_choice "auto" without a format, or the local engine',
                    "tools",
                )
        places = {tool.name: number for number, tool in enumerate(self.tools)}
        for tool in self.callable:
            try:
                check_parameters(tool)
            except ConfigError as error:
                place = f"tools.{places[tool.name]}.function.parameters"
                raise bad_request(place + str(error).removeprefix("json"), place) from error
        otherwise = None if self.required else asked
        many = self.most != 1
        try:
            return calls_format(self.callable, self.written_in, many=many, otherwise=otherwise)
        except ConfigError as error:
            raise bad_request(f"tools: {error}", "tools") from error


def plan_tools(
    request: ChatRequest | TokenizeRequest,
    candidates: Sequence[Candidate],
    infos: Sequence[ModelInfo],
    policy: Policy,
) -> ToolPlan:
    """What the request's tools come to, for these candidates and their models. The first time it
    renders their templates, so it belongs in a thread. Raises ApiError."""
    assert request.messages is not None, "a prompt has no tools"
    turns = read_turns(request.messages)
    tools = _tools(request.tools or ())
    choice = request.tool_choice if isinstance(request, ChatRequest) else None
    wanted = tools
    if isinstance(choice, NamedTool):
        wanted = tuple(tool for tool in tools if tool.name == choice.function.name)
        if not wanted:
            known = ", ".join(tool.name for tool in tools) or "none"
            raise bad_request(
                f"tool_choice.function.name is {choice.function.name!r}, which is none of the "
                f"tools: name one of tools, which are {known}",
                "tool_choice.function.name",
            )
    elif choice == "required" and not tools:
        raise bad_request(
            'tool_choice: "required" needs tools: add some, or leave it out', "tool_choice"
        )
    elif choice == "none":
        tools = wanted = ()  # what speakers are not shown they do not call
    if not tools and not has_tools(turns):
        return ToolPlan(turns)
    parallel = getattr(request, "parallel_tool_calls", None) is not False
    named = isinstance(choice, NamedTool)
    return ToolPlan(
        turns,
        tools,
        wanted,
        required=named or choice == "required",
        most=None if parallel and not named else 1,
        written_in=_format(candidates, infos, policy, spoken=bool(tools)),
    )


def _tools(definitions: Sequence[ToolDefinition]) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for number, definition in enumerate(definitions):
        function = definition.function
        place = f"tools.{number}.function"
        if function.name in tools:
            raise bad_request(
                f"{place}.name {function.name!r} is there twice: give each tool its own name",
                f"{place}.name",
            )
        parameters = dict(function.parameters or _NO_ARGUMENTS)
        if parameters.setdefault("type", "object") != "object":
            raise bad_request(
                f'{place}.parameters.type must be "object": a function has named arguments',
                f"{place}.parameters.type",
            )
        entry = {"name": function.name, "description": function.description or ""}
        tools[function.name] = Tool(
            function.name,
            parameters,
            {"type": "function", "function": {**entry, "parameters": parameters}},
        )
    return tuple(tools.values())


def _format(
    candidates: Sequence[Candidate], infos: Sequence[ModelInfo], policy: Policy, *, spoken: bool
) -> ToolCallFormat:
    """The format of an answer's calls: that of a single candidate's template, else the policy's,
    else that of all the templates. Where the answer has
    none (not `spoken`), it is how those before it are written for models without a template."""
    taught = {
        candidate.name: info.codec.template_tools.format
        for candidate, info in zip(candidates, infos, strict=True)
        if candidate.spec.prompt is None and info.codec.template_tools.knows
    }
    if len(candidates) == 1 and (own := taught.get(candidates[0].name)) is not None:
        return own
    if policy.tool_call_parser is not None:
        return FORMATS[policy.tool_call_parser]
    formats = [known for known in taught.values() if known is not None]
    names = sorted({known.name for known in formats})
    cure = f"set policy.tool_call_parser in the team file to one of {', '.join(FORMATS)}"
    if spoken and len(formats) < len(taught):
        unknown = next(name for name, known in taught.items() if known is None)
        raise bad_request(
            f"tools: the chat template of {unknown!r} writes calls in a format that is not known "
            f"here: {cure}, or leave tools out",
            "tools",
        )
    if spoken and len(names) > 1:
        told = ", ".join(f"{name} {known.name}" for name, known in taught.items() if known)
        raise bad_request(
            f"tools: the candidates' chat templates write calls in different formats ({told}): "
            f"{cure}, or name one candidate as the model",
            "tools",
        )
    return formats[0] if formats else PLAIN
