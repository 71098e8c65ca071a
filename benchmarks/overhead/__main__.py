"""The cost of taking turns: `python -m benchmarks.overhead overhead`, or `length`."""

from __future__ import annotations

from typing import Annotated

import typer

from recipes.terminal import run, say
from taketurns.cli.options import ClockOption, JsonOption

ShapeOption = Annotated[str, typer.Option(help="Size of the random models: 100m, 13m, 8b or tiny.")]

bench = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure the cost of taking turns."
)


@bench.command()
def overhead(
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Answers at the same time (default: 1 and 8).")
    ] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(min=1, help="Tokens per answer (default: 256 and 1024).")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 3,
    pocket_questions: Annotated[
        int, typer.Option(min=0, help="Dev questions for the bundled team; 0 leaves it out.")
    ] = 24,
    shape: ShapeOption = "100m",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")] = "auto",
    clock: ClockOption = "wall",
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny models, short answers: does it run at all?")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Time a team against one model alone, the least possible cost, and the public code."""
    from rich.console import Console

    from benchmarks.overhead.report import show
    from benchmarks.overhead.suite import OverheadPlan
    from benchmarks.overhead.suite import run as measure
    from benchmarks.overhead.workload import Workload

    if quick:
        batch, tokens, shape = batch or [1, 2], tokens or [64], "tiny"
        repeats, pocket_questions = 1, min(pocket_questions, 3)
    workloads = tuple(
        Workload(batch=rows, tokens=length, clock=clock)
        for rows in batch or (1, 8)
        for length in tokens or (256, 1024)
    )
    plan = OverheadPlan(workloads, repeats, pocket_questions, shape, device, dtype)
    results = measure(plan, say)
    if json_:
        Console().print_json(data=results.to_json())
    else:
        show(Console(), results)


@bench.command()
def length(
    tokens: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Tokens per answer (default: 512, 1024, 2048 and 4096)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Answers at the same time.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 1,
    shape: ShapeOption = "100m",
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Steps of the pocket problems (default: 2, 4, … 64)."),
    ] = None,
    pocket_questions: Annotated[
        int, typer.Option(min=0, help="Problems per length for the bundled team; 0 leaves it out.")
    ] = 20,
    clock: ClockOption = "wall",
    json_: JsonOption = False,
) -> None:
    """Measure speed, quality and speakers of a team as its answers grow."""
    from rich.console import Console

    from benchmarks.overhead.length import run as measure
    from benchmarks.overhead.length import show
    from benchmarks.overhead.workload import Workload

    workloads = [Workload(batch, size, clock=clock) for size in tokens or (512, 1024, 2048, 4096)]
    lengths = measure(
        workloads, shape, repeats, steps or (2, 4, 8, 16, 32, 64), pocket_questions, say
    )
    if json_:
        Console().print_json(data=lengths.to_json())
    else:
        show(Console(), lengths)


if __name__ == "__main__":
    run(bench, "benchmarks.overhead")
