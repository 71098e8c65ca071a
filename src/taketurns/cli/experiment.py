"""`taketurns experiment`: what only new answers can say about a team."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.errors import UsageError

if TYPE_CHECKING:
    from taketurns.evaluation.interventions.session import InterventionKind

_say = options.say_as("experiment")


def experiment(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The analysis folder: sections and records.")
    ],
    team: options.TeamOption = "pocket",
    only: Annotated[
        str | None,
        typer.Option(
            help="Some of sequences, helpfulness, decisions, generalisation, with commas between."
        ),
    ] = None,
    task: options.TasksOption = None,
    data: options.DataOption = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Of the tasks.")] = "test",
    limit: Annotated[
        int, typer.Option(min=2, help="Questions a task, answered under every condition.")
    ] = 60,
    trials: Annotated[int, typer.Option(min=1, help="Boundaries a task to force at.")] = 120,
    prefixes: Annotated[int, typer.Option(min=1, help="Decisions a task to roll out.")] = 25,
    k: Annotated[int, typer.Option(min=2, help="Rollouts a branch of a decision.")] = 16,
    traces: Annotated[
        Literal["on-policy", "random"],
        typer.Option(help="Who switches before and after a decision: the switcher, or nobody."),
    ] = "on-policy",
    labels: Annotated[
        Path | None,
        typer.Option(help="Rollouts of the train split: heads are retrained on parts of the pool."),
    ] = None,
    rollouts: Annotated[
        Path | None, typer.Option(help="Decisions that are rolled out already, in place of new.")
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL", help="Another model in a candidate's place; may be repeated."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers under way at a time.")] = 96,
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Ask a team anew: forced sequences, candidates left out, decisions, changed pools.

    The same command goes on after a stop, also with more questions or further experiments.
    `taketurns analyze` shows what is found in the folder's report.
    """
    from taketurns.evaluation.interventions.job import InterventionJob
    from taketurns.evaluation.interventions.session import run_interventions, to_json

    config = options.load_team(team, set_)
    job = InterventionJob(
        tasks=options.load_tasks(team, task, _say, data),
        split=split,
        limit=limit,
        trials=trials,
        prefixes=prefixes,
        k=k,
        traces=traces,
        labels=labels,
        rollouts=rollouts,
        replaced=tuple(replace or ()),
        concurrency=concurrency,
    )
    with options.interruptible(_say):
        outcome = run_interventions(config, job, output, _kinds(only))
    if json_:
        print(to_json(outcome))  # noqa: T201
    else:
        for section in outcome.sections:
            print(f"{section.title}\n  {section.finding}\n")  # noqa: T201
    if failures := outcome.failures:
        _say(failures.sentence("records failed"))
        raise typer.Exit(options.FAILED)


def _kinds(only: str | None) -> list[InterventionKind]:
    from taketurns.evaluation.interventions.session import KINDS

    wanted = options.split_words(only or ",".join(KINDS))
    for word in wanted:
        if word not in KINDS:
            raise UsageError(f"there is no experiment {word!r}; there are {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in wanted]
