"""LiteLLM's proxy between OpenAI's client and a team."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from .environments import Environments
from .served import Served

KEY = "sk-only-for-this-test"


@pytest.fixture(scope="module")
def proxy(
    served: Served, clients: Environments, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    parameters = {"model": "openai/team", "api_base": f"{served.url}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "team", "litellm_params": parameters}],
        "general_settings": {"master_key": KEY},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(clients.command("litellm-proxy", "litellm"), "--host", "127.0.0.1"),
        *("--port", str(port), "--config", folder / "litellm.yaml", "--telemetry", "False"),
    ]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            until_it_lives(f"{url}/health/liveliness", process)
            yield f"{url}/v1"
        finally:
            process.terminate()


def until_it_lives(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        assert process.poll() is None, "the proxy has ended"
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{url} was never ready")


@pytest.mark.parametrize("mode", ["chat", "stream", "parse"])
def test_openai_s_client_behind_the_proxy(clients: Environments, proxy: str, mode: str) -> None:
    outcome = clients.ask("openai", "with_openai.py", mode, CLIENT_URL=proxy, CLIENT_KEY=KEY)
    assert outcome.refusals == []
    if mode == "parse":
        assert set(outcome.result) == {"kind", "old"}
    else:
        assert "".join(outcome.result) == outcome.answers[-1].text


def test_seed_and_patches_behind_the_proxy(clients: Environments, proxy: str) -> None:
    """The proxy drops what stands on the choice of the last chunk, and keeps what stands on the
    chunk itself."""
    outcome = clients.ask(
        "openai", "with_openai.py", "last_chunk", CLIENT_URL=proxy, CLIENT_KEY=KEY
    )
    assert not outcome.failed, outcome.output[-3000:]
    (answer,) = outcome.answers
    sent = [event for event in answer.events if event["choices"]][-1]
    assert sent["choices"][0]["taketurns"]["seed"] == 7
    assert "taketurns" not in (outcome.result["choice"] or {})
    kept = outcome.result["chunk"]["taketurns"]
    assert kept == sent["taketurns"]
    assert kept["seed"] == 7
    assert "".join(patch["text"] for patch in kept["patches"]) == outcome.result["text"]
