"""Grammars of answers that call tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from taketurns.checkpoints.tool_calls.base import ToolCallFormat
from taketurns.checkpoints.tool_calls.records import Tool
from taketurns.errors import ConfigError
from taketurns.generation.formats.grammar import JSON_OPTIONS, compile_format
from taketurns.types import AnswerFormat


def calls_format(
    tools: Sequence[Tool],
    written_in: ToolCallFormat,
    *,
    many: bool,
    otherwise: AnswerFormat | None = None,
) -> AnswerFormat:
    """An answer that calls one of the tools or, with `many`, any number of them; or is JSON by the
    schema of `otherwise`. Raises ConfigError. It may take a second, so it belongs in a thread."""
    try:
        calls = written_in.grammar(tools, _json_rule, many=many)
    except ValueError as error:
        raise ConfigError(f"{error}: use another format of calls, or change the tool") from error
    start = "start: calls"
    if otherwise is not None:
        start += f" | text\ntext: {_json_rule(json.loads(otherwise.value))}"
    return AnswerFormat("grammar", f"{start}\n{calls}\n")


def check_parameters(tool: Tool) -> None:
    """Raise ConfigError, with the path in it, for a schema of arguments that no answer can be held
    to."""
    compile_format(AnswerFormat("json", json.dumps(tool.parameters)))


def _json_rule(schema: Any) -> str:
    options = {"x-guidance": JSON_OPTIONS} if isinstance(schema, dict) else {}
    return f"%json {json.dumps({**schema, **options} if options else schema)}"
