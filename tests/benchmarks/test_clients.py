"""The table of what clients get, from the log of their tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clients.table import Way, markdown, version, ways

ANSWER = {"path": "/v1/chat/completions", "sent": {}, "refused": None}
REFUSED = ANSWER | {"refused": "400: response_format.type: should be 'text'"}
LOOKED = {"path": "/tokenizer_info", "sent": {}, "refused": "404: there is no such thing"}


def entry(test: str, outcome: str = "passed", *requests: dict[str, Any], **more: Any) -> str:
    known = {"test": test, "outcome": outcome, "requests": requests, "failures": [], "reason": []}
    return json.dumps(known | more)


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    before = [
        entry("test_libraries.py::test_an_answer[openai-chat]", "passed", ANSWER),
        entry("test_libraries.py::test_an_object_by_a_schema[openai-parse]", "failed", REFUSED),
        entry(
            "test_libraries.py::test_an_object_by_a_schema[openai-json_schema]", "failed", REFUSED
        ),
        entry("test_lm_eval.py::test_completions[ids]", "failed", LOOKED, failures=["KeyError"]),
        entry("test_promptfoo.py::test_an_answer[chat]", "skipped"),
    ]
    after = [
        entry("test_libraries.py::test_an_answer[openai-chat]", "passed", ANSWER),
        entry("test_libraries.py::test_an_answer[openai (JavaScript)-chat]", "passed", ANSWER),
        entry("test_libraries.py::test_an_object_by_a_schema[openai-parse]", "passed", ANSWER),
        entry(
            "test_libraries.py::test_an_object_by_a_schema[openai-json_schema]", "failed", REFUSED
        ),
        entry("test_lm_eval.py::test_completions[ids]", "passed", LOOKED, ANSWER),
        entry("test_libraries.py::test_what_is_refused[openai-tools]", "passed", REFUSED),
        entry("test_benchmark_clients.py::test_guidellm[/v1/chat/completions]", "passed", ANSWER),
        entry("test_benchmark_clients.py::test_what_vllm_bench_sends[completions-body0]"),
    ]
    for name, lines in (("before", before), ("after", after)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return [tmp_path / "before", tmp_path / "after"]


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    (tmp_path / "clients/openai/lib/python3.11/site-packages/openai-3.57.0.dist-info").mkdir(
        parents=True
    )
    (tmp_path / "clients/node/node_modules/openai").mkdir(parents=True)
    package = tmp_path / "clients/node/node_modules/openai/package.json"
    package.write_text('{"version": "7.59.0"}')
    return tmp_path / "clients"


def test_ways(logs: list[Path]) -> None:
    refusal = "400: response_format.type: should be 'text'"
    assert list(ways(logs[0])) == [
        Way("openai", "chat", "chat", "served"),
        Way("openai", "schema", "parse", "refused", refusal),
        Way("openai", "schema", "json_schema", "refused", refusal),
        Way("lm-eval", "completions", "ids", "fails", "KeyError"),
    ]


def test_versions(clients: Path) -> None:
    assert version(clients, "openai") == "3.57.0"
    assert version(clients, "openai (JavaScript)") == "7.59.0"
    assert version(clients, "llm") == ""


def test_markdown(logs: list[Path], clients: Path) -> None:
    assert markdown(clients, [list(ways(log)) for log in logs]).splitlines() == [
        "| client | chat | stream | completions | schema | JSON in words | tools | other |",
        "|---|---|---|---|---|---|---|---|",
        "| openai 3.57.0 | served → served |  |  | refused → 1 of 2 served |  | – → refused |  |",
        "| openai (JavaScript) 7.59.0 | – → served |  |  |  |  |  |  |",
        "| lm-eval |  |  | fails → served |  |  |  |  |",
        "| guidellm |  | – → served |  |  |  |  |  |",
    ]


def test_json(logs: list[Path], clients: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.clients.table", clients, *logs, "--json"]
    written = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert written["versions"]["openai"] == "3.57.0"
    assert [way["outcome"] for way in written["ways"][str(logs[0])]] == [
        *("served", "refused", "refused", "fails"),
    ]
