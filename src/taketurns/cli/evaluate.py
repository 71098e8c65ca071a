"""`taketurns evaluate`: compare the team with other methods on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taketurns.cli import options
from taketurns.errors import UsageError

_say = options.say_as("evaluate")


def evaluate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for answers and report.")
    ],
    team: options.TeamOption = "pocket",
    task: options.TasksOption = None,
    data: Annotated[
        Path | None,
        options.question_option(
            help="The paper's benchmarks in the authors' format, a file or a folder."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, separated by commas (default: all that suit the team)."),
    ] = None,
    switcher: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A trained switcher, as the method NAME."),
    ] = None,
    seeds: Annotated[
        int, options.question_option(min=1, help="Answers per question, one per seed.")
    ] = 5,
    limit: Annotated[
        int | None, options.question_option(min=1, help="Test questions per task (default: all).")
    ] = None,
    dev_limit: Annotated[
        int,
        options.question_option(
            min=2, help="Dev questions per task, for methods that select by them."
        ),
    ] = 50,
    subject: Annotated[
        str | None,
        typer.Option(help="The method to compare with all others (default: the team)."),
    ] = None,
    concurrency: options.ConcurrencyOption = 96,
    workers: Annotated[
        int,
        options.execution_option(
            min=1, help="Processes that answer; small models use one core each."
        ),
    ] = 1,
    clock: options.ClockOption = "wall",
    runner: options.RunnerOption = "local",
    actors: options.ActorsOption = 1,
    gpus: options.GpusOption = 0,
    shard: options.ShardOption = 64,
    answers_only: Annotated[bool, typer.Option("--answers-only", hidden=True)] = False,
    set_: options.SetOption = None,
) -> None:
    """Compare the team with its checkpoints and other methods.

    After a stop, the same command continues, also with more methods, questions or seeds.
    """
    import asyncio

    from taketurns.evaluation.session import EvaluationRequest, conduct
    from taketurns.tasks.defaults import choose_tasks

    if runner == "ray" and workers > 1:
        raise UsageError("--workers is for the local runner: with --runner ray, use --actors")
    config = options.load_team(team, set_)
    chosen = choose_tasks(team, task or (), _say)
    request = EvaluationRequest(
        tasks=chosen.names,
        world=chosen.world,
        methods=None if methods is None else tuple(options.split_words(methods)),
        switchers=tuple(switcher or ()),
        seeds=seeds,
        limit=limit,
        dev_limit=dev_limit,
        subject=subject,
        concurrency=concurrency,
        workers=workers,
        helping=answers_only,
        clock=clock,
        data=data and data.absolute(),
        ray=options.ray_settings(runner, actors, gpus, shard),
    )
    repeated = ["--team", team, "--output", str(output)]
    for setting in set_ or ():
        repeated += ["--set", setting]
    with options.interruptible(_say):
        failures = asyncio.run(conduct(config, request, output, _say, repeated))
    if failures:
        _say(failures.sentence("answers failed and count as wrong"))
        raise typer.Exit(options.FAILED)
