"""`taketurns evaluate`: is the team worth it, on these tasks, beside everything else?"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli.options import TASKS_HELP, ActorsOption, GpusOption, RunnerOption, ShardOption
from taketurns.errors import UsageError

FAILED, INTERRUPTED = 1, 130


def evaluate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for answers and report.")
    ],
    team: Annotated[
        str, typer.Option("--team", "-t", help='A team file, or "pocket" for the bundled team.')
    ] = "pocket",
    task: Annotated[
        list[str] | None,
        typer.Option(help=TASKS_HELP),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The paper's benchmarks in the authors' format: a file or a folder."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, with commas between (default: all that work with the team)."),
    ] = None,
    switcher: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A trained switcher, as the method NAME."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Answers a question, of as many seeds.")] = 5,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test questions a task (default: all).")
    ] = None,
    dev_limit: Annotated[
        int, typer.Option(min=2, help="Dev questions a task, for methods that choose by them.")
    ] = 50,
    subject: Annotated[
        str | None,
        typer.Option(help="The method that is compared with all others (default: the team)."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers under way at a time.")] = 96,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that answer; small models use a core each.")
    ] = 1,
    clock: Annotated[
        Literal["wall", "cpu"],
        typer.Option(help="Of a method's seconds; cpu counts computing alone, on a busy machine."),
    ] = "wall",
    runner: RunnerOption = "local",
    actors: ActorsOption = 1,
    gpus: GpusOption = 0,
    shard: ShardOption = 64,
    answers_only: Annotated[bool, typer.Option("--answers-only", hidden=True)] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the team."),
    ] = None,
) -> None:
    """Compare checkpoints alone, other ways to combine them, and taking turns.

    The same command goes on after a stop, also with more methods, questions or seeds.
    """
    from taketurns.config.team_config import load_team_config, parse_setting
    from taketurns.evaluation.session import EvaluationRequest, conduct
    from taketurns.runs.shards import RaySettings
    from taketurns.tasks.defaults import choose_tasks

    if runner == "ray" and workers > 1:
        raise UsageError("--workers are processes of the local runner; with ray, say --actors")
    config = load_team_config(team, dict(parse_setting(setting) for setting in set_ or ()))
    asked = choose_tasks(team, task or (), _say)
    request = EvaluationRequest(
        tasks=asked.names,
        world=asked.world,
        methods=_words(methods),
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
        ray=RaySettings(actors, gpus, shard) if runner == "ray" else None,
    )
    same = ["--team", team, "--output", str(output)]
    for setting in set_ or ():
        same += ["--set", setting]
    try:
        failures = asyncio.run(conduct(config, request, output, _say, same))
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if failures:
        _say(failures.sentence("answers failed and count as wrong"))
        raise typer.Exit(FAILED)


def _words(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _say(sentence: str) -> None:
    print(f"taketurns evaluate: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
