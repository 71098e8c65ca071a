"""Tools, calls of them, and conversations with both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

TurnRole = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `parameters` is the JSON schema of its arguments, an
    object; `entry` is the whole tool as the request has it, which chat templates are given."""

    name: str
    parameters: Mapping[str, Any]
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that was made; `arguments` is a JSON object."""

    id: str
    name: str
    arguments: str

    @property
    def values(self) -> Any:
        """The arguments by name."""
        return json.loads(self.arguments)


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """A turn of a conversation. The assistant's may have `calls`; a turn of a tool has the result
    of the call `call_id`, of the function `name`."""

    role: TurnRole
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ToolConversation:
    """A conversation, and the tools that its answer may call."""

    turns: tuple[ToolTurn, ...]
    tools: tuple[Tool, ...] = ()
