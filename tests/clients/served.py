"""A served team that records what it is sent: two tiny models with random weights, or real ones."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.server.config import ServeConfig
from taketurns.server.model_registry import ModelRegistry
from taketurns.server.run import TeamServer, listen
from taketurns.server.serving import Serving
from taketurns.switchers.simple import RandomSwitcher

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
    config = ServeConfig(port=0)
    server = TeamServer(Serving(ModelRegistry(team, "team"), config))
    server.config.app = recorder = Recorder(server.config.app)
    name, spec = list(specs.items())[-1]
    with listen(config) as listening:
        url = "http://{}:{}".format(*listening.getsockname())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while httpx.get(f"{url}/health/ready").status_code != 200:
                assert server.failure is None, server.failure
            yield Served(url, name, Path(spec.model), recorder)
        finally:
            server.should_exit = True
            thread.join(timeout=60)


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
