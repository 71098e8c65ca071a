"""Clients of the other APIs, and of tools: each one's own way to ask."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .environments import Environments

ANTHROPIC = ("anthropic", "with_anthropic.py")


def told(clients: Environments, client: tuple[str, str], mode: str) -> Any:
    """What a program returned."""
    outcome = clients.ask(*client, mode)
    assert not outcome.failed, outcome.output[-3000:]
    return outcome.result


def is_city(value: Any) -> bool:
    """Whether it is a record as the programs' schema asks for."""
    city = json.loads(value) if isinstance(value, str) else value
    return city["kind"] in ("town", "port") and isinstance(city["old"], bool) and len(city) == 2


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
    assert set(told(clients, ANTHROPIC, "speakers")) <= {"base", "chat"}
    error = told(clients, ANTHROPIC, "refused")
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("tool_choice.name is 'x'")
