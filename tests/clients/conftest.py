"""Other people's clients, each in an environment of its own, ask a served team.

CLIENTS names the folder with the environments (`make test-clients` makes it); without it nothing
is collected. TAKETURNS_REAL, the folder of `make real-models`, has two real models asked instead
of two tiny ones with random weights. CLIENTS_CHECKOUT, another checkout of this project, has its
server asked. CLIENTS_LOG names a file that gets a line of JSON a test: how it ended, what was sent,
what was refused, and what the client made of it. `benchmarks.clients.table` makes a table of it.
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
from .served import Served, real_models, serving, serving_by, tiny_models

REAL = os.environ.get("TAKETURNS_REAL")
CHECKOUT = os.environ.get("CLIENTS_CHECKOUT")
_REPORT = pytest.StashKey[pytest.TestReport]()
if "CLIENTS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def served(
    make_model: Callable[..., Path],
    byte_tokenizer: Any,
    other_tokenizer: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    if REAL is not None:
        specs, policy = real_models(Path(REAL)), Policy(max_tokens=64, patch_size=16)
    else:
        specs = tiny_models(make_model, (byte_tokenizer, other_tokenizer))
        policy = Policy(max_tokens=800, patch_size=5, temperature=1.0)
    if CHECKOUT is None:
        team = serving(specs, policy)
    else:
        team = serving_by(Path(CHECKOUT), specs, policy, tmp_path_factory.mktemp("server"))
    with team as running:
        yield running


@pytest.fixture(scope="session")
def clients(served: Served) -> Iterator[Environments]:
    folder = Path(os.environ["CLIENTS"]).absolute()
    environments = Environments(folder, served.url, served.recorder)
    yield environments
    environments.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None] | Any:
    report = yield
    if call.when == "call":
        item.stash[_REPORT] = report
    return report


@pytest.fixture(autouse=True)
def _log(request: pytest.FixtureRequest, served: Served, clients: Environments) -> Iterator[None]:
    sent, asked = len(served.recorder.exchanges), len(clients.outcomes)
    yield
    if (path := os.environ.get("CLIENTS_LOG")) is None:
        return
    report = request.node.stash[_REPORT]
    outcomes = clients.outcomes[asked:]
    entry = {
        "test": report.nodeid.removeprefix("tests/clients/"),
        "outcome": report.outcome,
        "reason": report.longreprtext.splitlines()[-1:] if report.failed else [],
        "results": [outcome.result for outcome in outcomes],
        "failures": [outcome.last_line for outcome in outcomes if outcome.failed],
        "requests": [
            {"path": exchange.path, "sent": exchange.request, "refused": exchange.refusal}
            for exchange in served.recorder.exchanges[sent:]
        ],
    }
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
