"""A team on a local Ray Serve, as `serve run` starts it: asked through OpenAI's client, on servers
that Ray places, replaces when they die, and stops. What stands in for vLLM writes with the bundled
checkpoints."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml
from openai import APIError, OpenAI

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.integrations.launch.manifests import documents
from taketurns.integrations.launch.plan import plan_servers

QUESTION = "what does rebol fonul work as?"
READY = 1800  # seconds; a machine with other work is slow
HERE = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # one Ray of two processes, with no token
FOLDER = Path(__file__).parents[1] / "engines" / "http"

# Stands in for vLLM: `vllm serve MODEL --served-model-name NAME --host H --port P …`.
PROGRAM = """#!{python}
import asyncio, os, sys
sys.path.insert(0, {folder!r})
from served import ModelServer, whole
from taketurns.engines.local import LocalEngine
from taketurns.types import ModelSpec

def option(name):
    return sys.argv[sys.argv.index(name) + 1]

class Server(ModelServer):
    async def _respond(self, writer, method, path, headers, body):
        if path == "/health":
            return whole(writer, {{}})
        return await super()._respond(writer, method, path, headers, body)

async def main():
    name = option("--served-model-name")
    server = Server(LocalEngine({{name: ModelSpec(sys.argv[2])}}), (name,), context=512)
    await server.engine.load(name)
    listening = await asyncio.start_server(
        server._connection, option("--host"), int(option("--port"))
    )
    with open(os.path.join({pids!r}, name), "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    await listening.serve_forever()

asyncio.run(main())
"""


# A process of its own: Ray leaves it to the end of a process to wait for what it started.
RAY = """
import ray, sys
options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20}
print(ray.init(**options, log_to_driver=False).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ray() -> Iterator[str]:
    """A Ray of this host's, and its address. Without a dashboard it starts in half the time."""
    pytest.importorskip("ray.serve")
    command = [sys.executable, "-c", RAY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=HERE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "Ray does not start"
        yield address
        process.stdin.close()
        process.wait(READY)


@contextmanager
def serve_run(ray: str, config: dict[str, Any], folder: Path) -> Iterator[str]:
    """`serve run`; the URL, when it answers."""
    port = free_port()
    config |= {"http_options": {"host": "127.0.0.1", "port": port}}
    path, log = folder / "serve.yaml", folder / "serve.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", ray, str(path)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=HERE,
            start_new_session=True,
        )
    try:
        url, until = f"http://127.0.0.1:{port}", monotonic() + READY
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert monotonic() < until, log.read_text()
            sleep(0.5)
        yield url
        process.send_signal(signal.SIGINT)
        process.wait(READY)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def ask(client: OpenAI, model: str) -> str:
    done = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=24
    )
    return done.choices[0].message.content or ""


def ask_streamed(client: OpenAI, model: str) -> list[str]:
    chunks = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=24,
        stream=True,
    )
    return [text for one in chunks if one.choices and (text := one.choices[0].delta.content)]


def pids(folder: Path, name: str) -> list[int]:
    return [int(line) for line in (folder / name).read_text().split()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """Two of the bundled candidates on servers."""
    candidates = []
    for one in load_team_config("pocket").candidates:
        if one.name != "sft":
            url = f"http://127.0.0.1:{free_port()}"
            entry = {"name": one.name, "model": one.spec.model, "urls": [url]}
            candidates.append(entry | ({"prompt": one.spec.prompt} if one.spec.prompt else {}))
    content = {
        "candidates": candidates,
        "switcher": {"kind": "random"},
        "engine": {"kind": "http", "timeout": 30},
        "policy": {"patch_size": 8, "temperature": 0},
    }
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.slow
def test_servers_are_placed_found_again_when_they_die_and_stopped(
    ray: str, team: Path, tmp_path: Path
) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text(
        PROGRAM.format(python=sys.executable, folder=str(FOLDER), pids=str(tmp_path)), "utf-8"
    )
    vllm.chmod(0o755)
    servers = plan_servers(load_team_config(team), (), lambda spec: None)
    (config,) = documents("ray-serve", servers, str(team))
    (application,) = config["applications"]
    application["args"]["vllm"] = str(vllm)
    for deployment in application["deployments"]:
        deployment["ray_actor_options"]["num_cpus"] = 0.5  # all fit on two cores
    with serve_run(ray, config, tmp_path) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=READY)
        assert [one.id for one in client.models.list()] == ["pair", "pretrained", "aligned"]
        said = {name: ask(client, name) for name in ("pretrained", "aligned")}
        with Team.load("pocket", max_tokens=24, temperature=0) as here:
            for name, text in said.items():
                assert text == here.alone(name).generate(QUESTION).text
        assert ask(client, "pair")
        pieces = ask_streamed(client, "aligned")
        assert len(pieces) > 1
        assert "".join(pieces) == said["aligned"]
        # A server dies: Ray starts another elsewhere, and it is found there.
        (first,) = pids(tmp_path, "aligned")
        os.kill(first, signal.SIGKILL)
        assert ask(client, "pretrained") == said["pretrained"]
        until = monotonic() + READY
        while True:
            try:
                again = ask(client, "aligned")
                break
            except APIError:
                assert monotonic() < until
                sleep(1)
        assert again == said["aligned"]
        assert len(pids(tmp_path, "aligned")) == 2
    started = [*pids(tmp_path, "aligned"), *pids(tmp_path, "pretrained")]
    assert not any(map(alive, started))


@pytest.mark.slow
def test_a_team_in_one_process_is_a_deployment_too(ray: str, tmp_path: Path) -> None:
    application = {
        "name": "taketurns",
        "import_path": "taketurns.integrations.launch.ray_serve:build",
        "args": {"team": "pocket"},
    }
    with serve_run(ray, {"applications": [application]}, tmp_path) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=READY)
        pieces = ask_streamed(client, "pocket")
        assert len(pieces) > 1
        assert ask(client, "aligned") == "".join(ask_streamed(client, "aligned"))
