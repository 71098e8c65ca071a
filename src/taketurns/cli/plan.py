"""`taketurns plan`: the command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from taketurns.cli import options
from taketurns.errors import UsageError
from taketurns.utils.extras import require

N = TypeVar("N", int, float)
_load = partial(typer.Option, rich_help_panel="Load")
_deployment = partial(typer.Option, rich_help_panel="Deployment")


def plan(
    replicas: Annotated[str, _deployment(help="Servers per model.")] = "1,2,4,8",
    rate: Annotated[
        str | None, _load(help="Requested answers per second, at random times.")
    ] = None,
    at_a_time: Annotated[
        str | None,
        _load(help="Concurrent answers; a new one starts when one ends (default: 64)."),
    ] = None,
    patch: Annotated[str, _load(help="Tokens per patch.")] = "50",
    sticky: Annotated[
        str, _deployment(help="The share of calls that go to their answer's home server.")
    ] = "1",
    costs: Annotated[
        str, _deployment(help="Measured costs: a file, 8b-h100 or pocket-cpu.")
    ] = "8b-h100",
    prompt: Annotated[int, _load(min=1, help="Mean tokens per prompt.")] = 200,
    answer: Annotated[int, _load(min=1, help="Mean tokens per answer.")] = 300,
    spread: Annotated[
        float, _load(min=0, help="The standard deviation of both, relative to the mean.")
    ] = 0.5,
    shared: Annotated[
        int, _load(min=0, help="Tokens common to all prompts, such as a system prompt.")
    ] = 0,
    answers: Annotated[
        Path | None,
        _load(help="Use lengths and speakers of these answers, written by generate."),
    ] = None,
    candidates: Annotated[int, _deployment(min=1, help="The number of candidates.")] = 3,
    switcher: Annotated[
        Literal["lm", "adapter", "none"],
        _deployment(help="On its own servers, on the last candidate's servers, or without calls."),
    ] = "lm",
    switcher_replicas: Annotated[
        int | None, _deployment(min=1, help="Servers of the switcher (default: as --replicas).")
    ] = None,
    concurrency: Annotated[int, _deployment(min=1, help="Concurrent requests per server.")] = 64,
    clients: Annotated[int, _deployment(min=1, help="Processes of taketurns.")] = 1,
    cores: Annotated[
        int | None, _deployment(min=1, help="Processors that all share (default: no limit).")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Answers per simulation (default: enough for stable numbers)."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The seed of lengths, speakers and arrivals.")
    ] = 0,
    plot: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf file for a plot.")] = None,
    json_: options.JsonOption = False,
) -> None:
    """Simulate how many servers a load needs, with measured costs.

    --replicas, --rate, --at-a-time, --patch and --sticky take several values, separated by commas;
    every combination is simulated.
    """
    from taketurns.integrations.planning.costs import load_costs

    require("planning", "simpy", *(() if plot is None else ("matplotlib",)))
    from taketurns.integrations.planning.deployment import Deployment
    from taketurns.integrations.planning.grid import Grid
    from taketurns.integrations.planning.table import plan_table
    from taketurns.integrations.planning.workload import AnswerMix, read_answers
    from taketurns.runs.progress import Progress

    if rate is not None and at_a_time is not None:
        raise UsageError("give either --rate or --at-a-time, not both")
    recorded = [] if answers is None else read_answers(answers, prompt)
    patches = numbers("--patch", patch, int, 1)
    if recorded and len(patches) > 1:
        raise UsageError("--answers already determines the patches: leave out --patch")
    measured = load_costs(costs)
    grid = Grid(
        deployment=Deployment(
            measured,
            candidates=candidates,
            switcher=switcher,
            switcher_replicas=switcher_replicas,
            shared=shared,
            concurrency=concurrency,
            clients=clients,
            cores=cores,
        ),
        mix=AnswerMix(prompt=prompt, answer=answer, spread=spread, candidates=candidates),
        replicas=numbers("--replicas", replicas, int, 1),
        patches=patches,
        sticky=numbers("--sticky", sticky, float, 0),
        rates=[] if rate is None else numbers("--rate", rate, float, 1e-9),
        at_a_time=numbers("--at-a-time", at_a_time or "64", int, 1) if rate is None else [],
        recorded=recorded,
        count=count,
        seed=seed,
    )
    with Progress("simulating", grid.answers) as progress:
        rows = list(grid.run(progress.advance))
    if plot is not None:
        from taketurns.integrations.planning.figures import draw

        draw(rows, plot, f"{candidates} candidates, switcher: {switcher}; {measured.about}")
    result = {"costs": measured.about, "rows": rows}
    options.print_result(result, lambda: plan_table(rows), as_json=json_)


def numbers(option: str, text: str, kind: Callable[[str], N], least: float) -> list[N]:
    """The numbers of a list separated by commas. Raises UsageError."""
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(least <= number < float("inf") for number in values):
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} takes {what} separated by commas, not {text!r}")
    return values
