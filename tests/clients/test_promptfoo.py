"""promptfoo, with its provider for OpenAI's chat completions at another address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .environments import Environments

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["town", "port"]}, "old": {"type": "boolean"}},
    "required": ["kind", "old"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_an_answer(clients: Environments, tmp_path: Path, kind: str) -> None:
    output, said = evaluated(clients, tmp_path, kind, {})
    assert output == said


def test_an_object_by_a_schema(clients: Environments, tmp_path: Path) -> None:
    output, _ = evaluated(clients, tmp_path, "chat", {"response_format": FORMAT})
    assert set(output) == {"kind", "old"}


def evaluated(
    clients: Environments, folder: Path, kind: str, settings: dict[str, Any]
) -> tuple[Any, str]:
    """What promptfoo makes of an answer, and what the server said."""
    provider = {
        "id": f"openai:{kind}:team",
        "config": {"apiBaseUrl": f"{clients.url}/v1", "apiKey": "none", **settings},
    }
    config = {
        "prompts": ["Is {{city}} a town or a port, and is it old?"],
        "providers": [provider],
        "tests": [{"vars": {"city": "Lisbon"}}],
    }
    (folder / "promptfooconfig.yaml").write_text(json.dumps(config))  # JSON is YAML
    outcome = clients.run(
        [
            *(clients.command("promptfoo", "node"), clients.command("promptfoo", "promptfoo")),
            *("eval", "--no-cache", "--no-share", "--output", folder / "out.json"),
        ],
        cwd=folder,
        PROMPTFOO_CONFIG_DIR=str(folder / "promptfoo"),
    )
    assert outcome.refusals == []
    assert not outcome.failed, outcome.output[-3000:]
    (result,) = json.loads((folder / "out.json").read_text())["results"]["results"]
    (answer,) = outcome.answers
    return result["response"]["output"], answer.text
