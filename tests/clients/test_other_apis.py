"""Clients of the other APIs, and of tools: each one's own way to ask."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import REAL
from .environments import Environments

ANTHROPIC = ("anthropic", "with_anthropic.py")


def told(clients: Environments, client: tuple[str, str], mode: str) -> Any:
    """What a program returned."""
    outcome = clients.ask(*client, mode)
    assert not outcome.failed, outcome.output[-3000:]
    return outcome.result


def is_city(value: Any) -> bool:
    """Whether it is a record as the programs' schema asks for; not all forbid further keys."""
    city = json.loads(value) if isinstance(value, str) else value
    return city["kind"] in ("town", "port") and isinstance(city["old"], bool)


@pytest.mark.parametrize("mode", ["chat", "round_trip"])
def test_anthropic_answers(clients: Environments, mode: str) -> None:
    assert told(clients, ANTHROPIC, mode)


@pytest.mark.parametrize("mode", ["stream", "events"])
def test_anthropic_streams(clients: Environments, mode: str) -> None:
    assert len(told(clients, ANTHROPIC, mode)) > 5


@pytest.mark.parametrize("mode", ["tool", "tool_stream", "json_schema"])
def test_anthropic_s_objects(clients: Environments, mode: str) -> None:
    assert is_city(told(clients, ANTHROPIC, mode))


def test_what_else_anthropic_s_client_asks(clients: Environments) -> None:
    assert told(clients, ANTHROPIC, "counted") > 50
    names = {"base", "chat"} if REAL is None else {"smollm2", "qwen"}
    assert set(told(clients, ANTHROPIC, "speakers")) <= names
    error = told(clients, ANTHROPIC, "refused")
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("tool_choice.name is 'x'")


RESPONSES = ("openai", "with_openai_responses.py")
AGENTS = ("openai-agents", "with_openai_agents.py")
LANGCHAIN = ("langchain", "with_tools.py")
PYDANTIC_AI = ("pydantic-ai", "with_tools.py")
NAMES = {"langchain": "langchain-openai"}  # in the table, of environments


@pytest.mark.parametrize("mode", ["text", "conversation"])
def test_openai_s_responses(clients: Environments, mode: str) -> None:
    assert told(clients, RESPONSES, mode)


def test_a_stream_of_openai_s_responses(clients: Environments) -> None:
    assert len(told(clients, RESPONSES, "stream")) > 5


@pytest.mark.parametrize(
    ("client", "mode"),
    [
        *((RESPONSES, mode) for mode in ("parse", "tool", "tool_stream")),
        *((RESPONSES, mode) for mode in ("chat_tool", "chat_tool_stream")),
        *((AGENTS, mode) for mode in ("chat_output", "responses_output")),
        *((LANGCHAIN, mode) for mode in ("bound", "bound_stream", "function_calling")),
        *((PYDANTIC_AI, mode) for mode in ("tool_output", "tool_output_responses")),
    ],
    ids=lambda part: part if isinstance(part, str) else NAMES.get(part[0], part[0]),
)
def test_objects_by_tools_and_formats(
    clients: Environments, client: tuple[str, str], mode: str
) -> None:
    assert is_city(told(clients, client, mode))


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("mode", ["tool", "tool_stream"])
def test_agents_call_what_they_are_given(clients: Environments, kind: str, mode: str) -> None:
    assert told(clients, AGENTS, f"{kind}_{mode}") in ("kept: True", "kept: False")


SMOLAGENTS = ("smolagents", "with_smolagents.py")


@pytest.mark.parametrize("mode", ["tool", "tool_stream"])
def test_smolagents_call_their_tools(clients: Environments, mode: str) -> None:
    for _ in range(6):  # an answer of random weights may be too long for its call to be whole
        gave = told(clients, SMOLAGENTS, mode)
        assert set(gave["called"]) <= {"record", "final_answer"}
        if gave["called"]:
            return
    raise AssertionError(gave["errors"])
