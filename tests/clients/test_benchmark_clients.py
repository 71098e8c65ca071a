"""Load generators: what guidellm and vLLM's `vllm bench serve` send."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from .environments import Environments
from .served import Served


@pytest.mark.parametrize("kind", ["/v1/chat/completions", "/v1/completions"])
def test_guidellm(clients: Environments, served: Served, tmp_path: Path, kind: str) -> None:
    backend = f"kind=openai_http,target={served.url},model=team,request_format={kind}"
    outcome = clients.run(
        [
            *(clients.command("guidellm", "guidellm"), "run", "--disable-console-interactive"),
            *("--backend", backend, "--tokenizer", f"kind=huggingface_auto,model={served.folder}"),
            *("--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8"),
            *("--profile", "kind=synchronous", "--constraint", "kind=max_requests,count=2"),
        ],
        cwd=tmp_path,
        HF_HUB_OFFLINE="1",
    )
    assert outcome.refusals == []
    assert not outcome.failed, outcome.output[-3000:]
    (benchmark,) = json.loads((tmp_path / "benchmarks.json").read_text())["benchmarks"]
    assert benchmark["metrics"]["request_totals"]["successful"] == 2


@pytest.mark.skipif("TAKETURNS_VLLM" not in os.environ, reason="vLLM is not installed")
@pytest.mark.parametrize("kind", ["openai", "openai-chat"])
def test_vllm_bench(clients: Environments, served: Served, tmp_path: Path, kind: str) -> None:
    path = "/v1/completions" if kind == "openai" else "/v1/chat/completions"
    outcome = clients.run(
        [
            *(os.environ["TAKETURNS_VLLM"], "bench", "serve", "--base-url", served.url),
            *("--backend", kind, "--endpoint", path, "--model", "team"),
            *("--tokenizer", served.folder, "--dataset-name", "random", "--num-prompts", "2"),
            *("--random-input-len", "16", "--random-output-len", "8", "--ignore-eos"),
            *("--save-result", "--result-dir", tmp_path),
        ]
    )
    # Two tokenizers have no common ids; where /tokenize gives none, it takes its own and goes on.
    assert all("tokenise this differently" in refusal for refusal in outcome.refusals)
    assert not outcome.failed, outcome.output[-3000:]
    (report,) = tmp_path.glob("*.json")
    assert json.loads(report.read_text())["completed"] == 2


STREAM = {"model": "team", "stream": True, "stream_options": {"include_usage": True}}
PARTS = [{"type": "text", "text": "Is Lisbon old?"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "completions",
            {
                "prompt": "Is Lisbon old?",
                "repetition_penalty": 1.0,
                "max_tokens": 8,
                "logprobs": None,
                "ignore_eos": True,
            },
        ),
        (
            "chat/completions",
            {
                "messages": [{"role": "user", "content": PARTS}],
                "max_completion_tokens": 8,
                "ignore_eos": True,
            },
        ),
    ],
)
def test_what_vllm_bench_sends(served: Served, path: str, body: dict[str, Any]) -> None:
    """Its bodies, for where vLLM is not installed."""
    reply = httpx.post(f"{served.url}/v1/{path}", json={**STREAM, **body}, timeout=600)
    assert reply.status_code == 200, reply.text
    events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 8
