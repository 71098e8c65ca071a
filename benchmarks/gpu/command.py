"""The command of `benchmarks.gpu`."""

from __future__ import annotations

import argparse
import gc
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import torch

import benchmarks.gpu
from benchmarks.costs.budget import Budget
from benchmarks.costs.report import rows_table
from benchmarks.costs.rows import Row, left_out, write_rows
from benchmarks.costs.units import Say, progress
from benchmarks.gpu.measure import WHAT, batch_row
from benchmarks.gpu.shapes import ON_CPU, ON_GPU, SHAPES
from benchmarks.overhead.models import pool_of
from benchmarks.overhead.setup import describe_setup
from benchmarks.overhead.workload import Workload
from taketurns.engines.local.loading import choose_device
from taketurns.engines.local.memory import free_bytes
from taketurns.errors import TakeTurnsError

GROWTH = 0.3  # a round is expected to take batch**GROWTH times as long as at batch 1


def main(arguments: Sequence[str], begun: float) -> None:
    """Measure, and print the table. The time limit counts from `begun`, by `time.monotonic`."""
    chosen = _parser().parse_args(arguments)
    device = choose_device(chosen.device)
    dtype = chosen.dtype or ("float32" if device == "cpu" else "bfloat16")
    shapes = chosen.shapes or (ON_GPU if device.startswith("cuda") else ON_CPU)
    setup = describe_setup(torch.device(device), dtype) | {"clock": "wall"}
    if chosen.commit is not None:
        setup["commit"] = chosen.commit
    setup["command"] = shlex.join(["python", "-m", "benchmarks.gpu", *arguments])
    say = progress(chosen.minutes, begun)
    expected = {
        f"{shape} {batch}": batch**GROWTH for shape in shapes for batch in sorted(chosen.batches)
    }
    budget = Budget(60 * chosen.minutes - (monotonic() - begun), expected)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with chosen.out.open("w", encoding="utf-8") as file:
        rows: list[Row] = []
        for shape in shapes:
            workloads = [Workload(batch, chosen.tokens) for batch in sorted(chosen.batches)]
            measured = shape_rows(shape, device, dtype, workloads, chosen.rounds, budget, say)
            rows += write_rows(measured, setup, file)
            gc.collect()
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
    print(rows_table(rows, setup))


def shape_rows(
    name: str,
    device: str,
    dtype: str,
    workloads: Sequence[Workload],
    most: int,
    budget: Budget,
    say: Say,
) -> Iterator[Row]:
    """A row for each workload, in up to `most` rounds. A batch is left out if the round of the one
    before took longer than the time that is left."""
    shape, took = SHAPES[name], 0.0
    try:
        free = free_bytes(device)
        layers = shape.fitting(free, getattr(torch, dtype).itemsize)
    except TakeTurnsError as error:
        for workload in workloads:
            yield left_out(name, WHAT.format(name), workload.batch, workload.tokens, str(error))
        return
    cut = ""
    if layers < shape.layers:
        cut = f"{layers} of {shape.layers} layers, because {free / 2**30:.0f} GiB are free"
    say(f"{name}: making three models{cut and f' with {cut}'}")
    with pool_of(name, shape.config(layers), device, dtype) as pool:
        pool.load(switcher=False)
        for workload in workloads:
            part = budget.part(f"{name} {workload.batch}")
            say(f"{name}: batch {workload.batch}, about {part:.0f} s")
            row, took = batch_row(pool, workload, part, most, budget, took, cut)
            say(f"{name}: batch {workload.batch}, {row.rounds} rounds; {row.note}")
            yield row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=9, help="the time limit (default: 9)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench/gpu.jsonl"), help="the file for the rows"
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="default: by the device")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=256, help="of an answer (default: 256)")
    parser.add_argument("--rounds", type=int, default=3, help="at most (default: 3)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--commit", help="the code's commit, for a copy without its repository")
    return parser
