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
    replicas: Annotated[str, _deployment(help="Servers of each model.")] = "1,2,4,8",
    rate: Annotated[
        str | None, _load(help="Answers asked for each second, at random times.")
    ] = None,
    at_a_time: Annotated[
        str | None,
        _load(help="Answers under way; a new one follows each (default: 64, without --rate)."),
    ] = None,
    patch: Annotated[str, _load(help="Tokens of a patch.")] = "50",
    sticky: Annotated[
        str, _deployment(help="Share of calls that go to the server that knows their answer.")
    ] = "1",
    costs: Annotated[
        str, _deployment(help="Measured costs: a file, or 8b-h100 or pocket-cpu.")
    ] = "8b-h100",
    prompt: Annotated[int, _load(min=1, help="Tokens of a prompt, on average.")] = 200,
    answer: Annotated[int, _load(min=1, help="Tokens of an answer, on average.")] = 300,
    spread: Annotated[
        float, _load(min=0, help="Standard deviation of both, as a share of the mean.")
    ] = 0.5,
    shared: Annotated[
        int, _load(min=0, help="Tokens that all prompts begin with, as a system prompt.")
    ] = 0,
    answers: Annotated[
        Path | None,
        _load(help="Take lengths and speakers from these answers of `taketurns generate`."),
    ] = None,
    candidates: Annotated[int, _deployment(min=1, help="Candidates of the team.")] = 3,
    switcher: Annotated[
        Literal["lm", "adapter", "none"],
        _deployment(help="On own servers, on those of the last candidate, or without a call."),
    ] = "lm",
    switcher_replicas: Annotated[
        int | None, _deployment(min=1, help="Servers of the switcher (default: as --replicas).")
    ] = None,
    concurrency: Annotated[int, _deployment(min=1, help="Requests under way at one server.")] = 64,
    clients: Annotated[int, _deployment(min=1, help="Processes of taketurns.")] = 1,
    cores: Annotated[
        int | None, _deployment(min=1, help="Processors that all of it shares (default: no limit).")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Answers of each simulation (default: enough to settle)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of lengths, speakers and arrivals.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a plot into this .png, .svg or .pdf file.")
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Simulate how many servers a load needs, with measured costs.

    Options in the plural take several values with commas between; every combination is simulated.
    """
    from taketurns.integrations.planning.costs import load_costs

    require("planning", "simpy", *(() if plot is None else ("matplotlib",)))
    from taketurns.integrations.planning.deployment import Deployment
    from taketurns.integrations.planning.grid import Grid
    from taketurns.integrations.planning.table import plan_table
    from taketurns.integrations.planning.workload import AnswerMix, read_answers
    from taketurns.runs.progress import Progress

    if rate is not None and at_a_time is not None:
        raise UsageError("give either --rate or --at-a-time")
    recorded = [] if answers is None else read_answers(answers, prompt)
    patches = numbers("--patch", patch, int, 1)
    if recorded and len(patches) > 1:
        raise UsageError("--answers have the patches that they have: leave --patch out")
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
    """The numbers of a list with commas. Raises UsageError."""
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(least <= number < float("inf") for number in values):
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} takes {what} with commas between, not {text!r}")
    return values
