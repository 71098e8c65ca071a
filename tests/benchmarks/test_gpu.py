"""The measurement for a GPU, on the CPU with tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
import torch

from benchmarks.costs.budget import Budget
from benchmarks.gpu import measure
from benchmarks.gpu.command import main, shape_rows
from benchmarks.gpu.shapes import ON_GPU, SHAPES
from benchmarks.overhead.models import ModelPool, random_pool
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.weights import count_parameters
from benchmarks.overhead.workload import Workload
from taketurns.engines.local.worker import RunningModel
from taketurns.errors import CapacityError

ROOT = Path(__file__).parents[2]
QUICK = ("--shapes", "llama-tiny", "--tokens", "12", "--batches", "2", "1", "--device", "cpu")
# What torch, transformers and their dependencies do not bring along.
MISSING = ("llguidance", "pydantic")


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_it_runs_where_only_torch_and_transformers_are_installed(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({MISSING!r}))\n"
        "runpy.run_module('benchmarks.gpu', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *QUICK, "--out", str(out), "--commit", "abc"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = records(out)
    assert [row["row"]["batch"] for row in rows] == [1, 2]  # type: ignore[index]
    for row in rows:
        measured = row["row"]["measured"]  # type: ignore[index]
        tokens = row["row"]["batch"] * 12  # type: ignore[index]
        assert measured["kept_tokens_per_second"] == pytest.approx(
            tokens / measured["kept_seconds"]
        )
        assert row["setup"]["commit"] == "abc"  # type: ignore[index]
        assert "--shapes llama-tiny" in row["setup"]["command"]  # type: ignore[index]
    assert "tokens a second" in done.stdout
    assert done.stdout.startswith("Commit abc; wall-clock time; ")


def test_the_limit_counts_from_the_start_of_the_program(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    main([*QUICK, "--out", str(out), "--minutes", "1"], monotonic() - 61)
    assert [row["row"]["note"] for row in records(out)] == [  # type: ignore[index]
        "left out: no time was left for it"
    ] * 2


@pytest.fixture(scope="module")
def pool() -> object:
    with random_pool("tiny", "cpu") as made:
        yield made


def test_a_batch_that_would_take_longer_than_the_time_left_does_not_begin(pool: ModelPool) -> None:
    row, mean = measure.batch_row(pool, Workload(2, 12), 50, 3, Budget(50, {}), 60.0, "")
    assert row.value is None
    assert mean == 60.0


def test_models_that_run_out_of_memory_give_a_row_with_the_reason(
    pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    monkeypatch.setattr(measure, "VARIANTS", dict.fromkeys(VARIANTS, fail))
    row, _ = measure.batch_row(pool, Workload(2, 12), 50, 3, Budget(50, {}), 0.0, "")
    assert row.value is None
    assert row.note == "left out: CUDA out of memory. Tried to allocate 9 GiB"


@pytest.mark.slow
def test_models_whose_cache_is_not_kept_are_named_as_such(
    pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, _ = measure.batch_row(pool, Workload(1, 12), 50, 1, Budget(50, {}), 0.0, "")
    assert "the engine" not in row.note
    monkeypatch.setattr(RunningModel, "keeps_cache", property(lambda self: False))
    row, _ = measure.batch_row(pool, Workload(1, 12), 50, 1, Budget(50, {}), 0.0, "")
    assert "; the engine " in row.note


def test_a_device_with_less_memory_takes_fewer_layers() -> None:
    shape = SHAPES["llama-8b"]
    assert shape.fitting(139 << 30, 2) == 32
    layers = shape.fitting(40 << 30, 2)
    assert 1 <= layers < 32
    for count, fits in ((layers, True), (layers + 1, False)):
        needed = 3 * 2 * count_parameters(shape.config(count))
        assert (needed <= 0.6 * (40 << 30)) is fits
    with pytest.raises(CapacityError, match="3 models of one layer need"):
        shape.fitting(1 << 30, 2)


def test_fewer_layers_are_named_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES["llama-tiny"]
    one = count_parameters(shape.config(1))
    monkeypatch.setattr("benchmarks.gpu.command.free_bytes", lambda _: int(3 * 4 * one / 0.6) + 9)
    budget = Budget(600, {"llama-tiny 1": 1})
    said: list[str] = []
    workloads = [Workload(1, 12)]
    (row,) = shape_rows("llama-tiny", "cpu", "float32", workloads, 1, budget, said.append)
    assert "1 of 2 layers, because 0 GiB are free" in row.note
    monkeypatch.setattr("benchmarks.gpu.command.free_bytes", lambda _: 1000)
    (row,) = shape_rows("llama-tiny", "cpu", "float32", workloads, 1, budget, said.append)
    assert row.note.startswith("left out: 3 models of one layer need")


@pytest.mark.parametrize("name", ON_GPU)
def test_the_shapes_for_a_gpu_are_of_seven_and_eight_billion(name: str) -> None:
    shape = SHAPES[name]
    config = shape.config(shape.layers)
    assert 7.0e9 < count_parameters(config) < 8.1e9
    assert config.eos_token_id is None
