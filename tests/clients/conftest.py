"""Other people's clients, each in an environment of its own, ask a served team.

CLIENTS names the folder with the environments (`make test-clients` makes it); without it nothing
is collected. TAKETURNS_REAL, the folder of `make real-models`, has two real models asked instead
of two tiny ones with random weights. CLIENTS_LOG names a file that gets a line of JSON a request:
what was sent, and the message if it was refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taketurns import Policy

from .environments import Environments
from .served import Served, real_models, serving, tiny_models

REAL = os.environ.get("TAKETURNS_REAL")
if "CLIENTS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def served(
    make_model: Callable[..., Path], byte_tokenizer: Any, other_tokenizer: Any
) -> Iterator[Served]:
    if REAL is not None:
        specs, policy = real_models(Path(REAL)), Policy(max_tokens=64, patch_size=16)
    else:
        specs = tiny_models(make_model, (byte_tokenizer, other_tokenizer))
        policy = Policy(max_tokens=800, patch_size=5, temperature=1.0)
    with serving(specs, policy) as running:
        yield running


@pytest.fixture(scope="session")
def clients(served: Served) -> Iterator[Environments]:
    folder = Path(os.environ["CLIENTS"]).absolute()
    environments = Environments(folder, served.url, served.recorder)
    yield environments
    environments.close()


@pytest.fixture(autouse=True)
def _log(request: pytest.FixtureRequest, served: Served) -> Iterator[None]:
    before = len(served.recorder.exchanges)
    yield
    if (path := os.environ.get("CLIENTS_LOG")) is None:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for exchange in served.recorder.exchanges[before:]:
            entry = {
                "test": request.node.name,
                "path": exchange.path,
                "sent": exchange.request,
                "refused": exchange.refusal,
            }
            file.write(json.dumps(entry) + "\n")
