"""A served team that records what it is sent: two tiny models with random weights, or real ones."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.server.config import ServeConfig
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, listen
from taketurns.server.serving import Serving
from taketurns.switchers.simple import RandomSwitcher

from .forwarding import forwarding
from .recorder import Recorder

TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclass(frozen=True)
class Served:
    """A team that listens at `url`. Its last candidate is `speaker`, with its files in `folder`."""

    url: str
    speaker: str
    folder: Path
    recorder: Recorder


@contextmanager
def serving(specs: dict[str, ModelSpec], policy: Policy) -> Iterator[Served]:
    """Serve the models of `specs` as a team whose speakers are drawn at random."""
    candidates = [Candidate(name, spec) for name, spec in specs.items()]
    team = Team(candidates, LocalEngine(specs), RandomSwitcher(), policy)
    server = TeamServer(Serving(ModelRegistry(team, "team"), ServeConfig(port=0)))
    server.config.app = recorder = Recorder(server.config.app)
    with _running(server) as url:
        _until_ready(url, lambda: server.failure is None)
        yield _served(url, specs, recorder)


@contextmanager
def serving_by(
    checkout: Path, specs: dict[str, ModelSpec], policy: Policy, folder: Path
) -> Iterator[Served]:
    """The same by the server of another checkout of this project; its log is in `folder`."""
    models = [
        {"name": name, "model": spec.model} | ({"prompt": spec.prompt} if spec.prompt else {})
        for name, spec in specs.items()
    ]
    settings = {key: getattr(policy, key) for key in ("max_tokens", "patch_size", "temperature")}
    team = {"candidates": models, "switcher": {"kind": "random"}, "policy": settings}
    (folder / "team.yaml").write_text(json.dumps(team))  # JSON is YAML
    with listen(ServeConfig(port=0)) as free:
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "taketurns", "serve", "--team", folder / "team.yaml"),
        *("--name", "team", "--port", str(port)),
    ]
    source = {"PYTHONPATH": str(checkout / "src")}
    recorder = Recorder(forwarding(f"http://127.0.0.1:{port}"))
    forwarder = uvicorn.Server(uvicorn.Config(recorder, log_level="warning"))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stderr=log, cwd=folder, env=os.environ | source) as process,
    ):
        try:
            _until_ready(f"http://127.0.0.1:{port}", lambda: process.poll() is None)
            with _running(forwarder) as url:
                yield _served(url, specs, recorder)
        finally:
            process.terminate()


@contextmanager
def _running(server: uvicorn.Server) -> Iterator[str]:
    """Run a server in a thread; gives its address."""
    with listen(ServeConfig(port=0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield "http://{}:{}".format(*listening.getsockname())
        finally:
            server.should_exit = True
            thread.join(timeout=60)


def _until_ready(url: str, lives: Callable[[], bool]) -> None:
    while True:
        assert lives(), "the server has ended"
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        except httpx.TransportError:  # not listening yet, or loading models
            pass
        time.sleep(0.1)


def _served(url: str, specs: dict[str, ModelSpec], recorder: Recorder) -> Served:
    name, spec = list(specs.items())[-1]
    return Served(url, name, Path(spec.model), recorder)


def tiny_models(make_model: Callable[..., Path], tokenizers: tuple[Any, Any]) -> dict[str, Any]:
    """A base model with a plain prompt, and a chat model with a template and another tokenizer."""
    base, chat = (copy.deepcopy(tokenizer) for tokenizer in tokenizers)
    chat.chat_template = TEMPLATE
    long = {"max_position_embeddings": 16384}  # some clients describe at length what they want
    return {
        "base": ModelSpec(
            str(make_model(1, tokenizer=base, **long)), prompt="Question: {text}\nAnswer:"
        ),
        "chat": ModelSpec(str(make_model(2, tokenizer=chat, **long))),
    }


def real_models(cache: Path) -> dict[str, Any]:
    """Two real models of different families, as `make real-models` leaves them."""
    return {name: ModelSpec(str(cache / name)) for name in ("smollm2", "qwen")}
