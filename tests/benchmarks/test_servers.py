"""The script that puts measured and simulated side by side reads what the measurement writes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.servers import validate
from benchmarks.servers.run import ServingFigures
from taketurns.integrations.planning.costs import load_costs
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import AnswerMix


def test_a_deployment_that_is_its_simulation_is_met_exactly(tmp_path: Path) -> None:
    costs = load_costs("pocket-cpu")
    deployment = Deployment(costs, tags=2, question=22, cores=2)
    figures = []
    for at_a_time in (1, 8):
        work = AnswerMix(prompt=25, answer=40, patch=16).draw(24, at_a_time)
        done = simulate(deployment, work, at_a_time=at_a_time)
        times = done.summary()["answer"]
        figures.append(
            ServingFigures(
                "team", at_a_time, 24, sum(one.tokens for one in work), 72, done.seconds,
                times["p50"], times["p95"], done.requests, done.prompt_tokens, done.cached_tokens,
                0, 1.0, tuple(work),
            )
        )  # fmt: skip
    found = {
        "costs": asdict(costs), "candidates": 3, "tags": 2, "question": 22, "cores": 2,
        "figures": [asdict(one) for one in figures],
    }  # fmt: skip
    rows = list(validate.compare(json.loads(json.dumps(found))))
    for row in rows:
        assert row.simulated == pytest.approx(row.measured)
    validate.draw(rows, tmp_path / "plot.png", "measured and simulated")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert validate.line(rows[0]).startswith("| team | 1 |")
