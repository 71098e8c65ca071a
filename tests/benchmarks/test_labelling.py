"""The labelling benchmark: what it replays is what a run would have done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.labelling import measure
from taketurns.training.labels.allocation import Racing, Uniform


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Forty prefixes with an open branch or two, and some that say nothing."""
    rng = np.random.default_rng(0)

    def branch(speaker: int, *, ended: bool) -> dict:
        worth = rng.beta(0.5, 0.5)
        utilities = [float(u < worth) for u in rng.random(1 if ended else 60)]
        return {"speaker": speaker, "ended": ended, "utilities": utilities, "failures": 0}

    records = [
        {"error": None, "branches": [branch(i, ended=i >= number % 3) for i in range(3)]}
        for number in range(60)
    ]
    records.append({"id": "x", "error": "the server is gone"})
    path = tmp_path / "bank.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    manifest = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00"}
    (tmp_path / "bank.jsonl.manifest.json").write_text(json.dumps(manifest))
    return path


def test_costs_and_regret(bank: Path) -> None:
    prefixes = measure.read_bank(bank)
    assert len(prefixes) == 40
    compared = [("uniform 4", Uniform(4)), ("uniform 20", Uniform(20)), ("racing", Racing(20))]
    figures = measure.measure(prefixes, compared, reference=40, draws=10)
    few, many, raced = measure.summary(figures, "uniform 20", 0.5)
    assert few["rollouts"] == 4 * 1.5
    assert many["rollouts"] == 20 * 1.5
    assert many["share"] == 1
    assert many["seconds"] == 15
    assert raced["share"] < 1
    assert few["regret"][0] > many["regret"][0] >= 0
    assert many["difference"] == [0, 0, 0]
    low, high = raced["difference"][1:]
    assert low < raced["difference"][0] < high
    assert few["agreement"][0] < many["agreement"][0] <= 1
    assert measure.seconds_a_rollout(bank) == 60 / (60 * 60)


def test_the_reference_is_disjoint_from_what_allocations_see() -> None:
    branch = measure.BankBranch(np.arange(50) / 50, False)
    seen = measure.draw(
        [branch, measure.BankBranch(np.array([1.0]), True)], 30, np.random.default_rng()
    )
    assert len(seen.pool[0]) == 20
    assert seen.truth[0] * 30 + seen.pool[0].sum() == pytest.approx(branch.utilities.sum())
    assert seen.truth[1] == 1
    spent, *_ = measure.judge(Uniform(7), measure.replay(Uniform(7), seen), seen.truth)
    assert spent == 7


def test_the_script_writes_its_table_and_plot(
    bank: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    output, plot = bank.with_name("out.json"), bank.with_name("out.png")
    arguments = [bank, "--reference", 28, "--draws", 2, "--output", output, "--plot", plot]
    monkeypatch.setattr(sys, "argv", ["measure.py", *map(str, arguments)])
    measure.main()
    rows = json.loads(output.read_text())
    assert {"uniform 32", "racing 0.012"} <= {row["allocation"] for row in rows}
    assert plot.stat().st_size > 10_000
    assert capsys.readouterr().out.startswith(
        "40 prefixes with an open branch, 2 draws, at most 32"
    )
