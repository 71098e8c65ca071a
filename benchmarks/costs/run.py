"""All figures of docs/results/costs.md that take long, step by step: `make bench-all`.

    python -m benchmarks.costs.run WORK [--only PATTERN …] [--list]

A step is one command that writes JSON lines in WORK; a step with an existing output is skipped, so
the same command continues after a stop. A round of the long workloads is a step of its own. Then
`python -m benchmarks.costs.report WORK` makes the tables.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from recipes.steps import Step, perform_steps, step_options
from taketurns.utils.files import write_text

ROUNDS: Mapping[tuple[int, int], int] = {(1, 256): 3, (1, 1024): 2, (8, 256): 2, (8, 1024): 1}
"""Rounds of the full comparison by batch and tokens: all variants, the public loop among them."""
LENGTHS = (512, 1024, 2048, 4096)
QUESTIONS = 24  # of the bundled team, in the first step
CLOCK = ("--clock", "cpu")


def steps(work: Path) -> Iterator[Step]:
    """The steps, the short ones first."""
    table = work / "table.jsonl"
    command = (sys.executable, "-m", "benchmarks.costs.table", "--out", str(table))
    yield Step("table", command, table)
    for (batch, tokens), rounds in ROUNDS.items():
        for round_ in range(rounds):
            first = (batch, tokens, round_) == (1, 256, 0)
            questions = ("--pocket-questions", str(QUESTIONS if first else 0))
            size = ("--batch", str(batch), "--tokens", str(tokens), "--repeats", "1")
            name = f"overhead-{batch}x{tokens}-{round_ + 1}"
            yield measured(work, name, ("overhead", *size, *questions, *CLOCK))
    for tokens in LENGTHS:
        size = ("--shape", "13m", "--tokens", str(tokens), "--pocket-questions", "0")
        yield measured(work, f"length-{tokens}", ("length", *size, *CLOCK))
    chains = ("--shape", "tiny", "--tokens", "64", "--pocket-questions", "20")
    yield measured(work, "chains", ("length", *chains, *CLOCK))


def measured(work: Path, name: str, arguments: Sequence[str]) -> Step:
    """A step of `benchmarks.overhead`, whose JSON list becomes JSON lines."""
    output = work / f"{name}.jsonl"
    command = (sys.executable, "-m", "benchmarks.overhead", *arguments, "--json")
    return Step(name, (), output, partial(as_lines, command, output))


def as_lines(command: Sequence[str], output: Path) -> None:
    """Run a command that prints a JSON list, and write its objects as lines."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    write_text(output, "".join(f"{json.dumps(part)}\n" for part in json.loads(done.stdout)))


if __name__ == "__main__":
    options = step_options(__doc__).parse_args()
    perform_steps(steps(options.work), options)
