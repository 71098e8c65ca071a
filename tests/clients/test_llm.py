"""Simon Willison's `llm`, with the server in its extra-openai-models.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .environments import Environments, Outcome

MODELS = """\
- model_id: turns
  model_name: team
  api_base: {url}/v1
  supports_schema: true
- model_id: turns-completion
  model_name: team
  api_base: {url}/v1
  completion: true
"""
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["town", "port"]}, "old": {"type": "boolean"}},
    "required": ["kind", "old"],
    "additionalProperties": False,
}


def llm(clients: Environments, folder: Path, *arguments: str) -> Outcome:
    (folder / "extra-openai-models.yaml").write_text(MODELS.format(url=clients.url))
    command = [clients.command("llm", "llm"), "prompt", *arguments]
    outcome = clients.run(command, LLM_USER_PATH=str(folder))
    assert outcome.refusals == []
    assert not outcome.failed, outcome.output[-3000:]
    return outcome


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("turns", []),
        ("turns", ["--no-stream"]),
        ("turns", ["--system", "You are a geographer."]),
        ("turns-completion", []),
        ("turns-completion", ["--no-stream"]),
    ],
    ids=["stream", "whole", "stream with a system prompt", "completions", "whole completions"],
)
def test_an_answer(clients: Environments, tmp_path: Path, model: str, options: list[str]) -> None:
    outcome = llm(clients, tmp_path, "-m", model, "Is Lisbon old?", *options)
    (answer,) = outcome.answers
    assert bool(answer.request.get("stream")) == ("--no-stream" not in options)
    assert outcome.output.split() == answer.text.split()


def test_an_object_by_a_schema(clients: Environments, tmp_path: Path) -> None:
    schema = json.dumps(SCHEMA)
    outcome = llm(clients, tmp_path, "-m", "turns", "Is Lisbon old?", "--schema", schema)
    assert set(json.loads(outcome.output)) == {"kind", "old"}
