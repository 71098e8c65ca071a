"""`taketurns rollout`: make labels, the utilities of each candidate's next patch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.cli.next_step import after_rollout

_say = options.say_as()


def rollout(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Labels, one prefix per line."),
    ],
    team: options.TeamOption = "pocket",
    task: options.TasksOption = None,
    data: options.DataOption = None,
    with_: options.WithOption = None,
    prefixes: Annotated[
        int, options.question_option(min=1, help="Prefixes, over all tasks.")
    ] = 1000,
    k: Annotated[
        int | None,
        options.question_option(
            min=1, help="Rollouts per branch (default: 8; racing: at most 32)."
        ),
    ] = None,
    allocate: Annotated[
        Literal["uniform", "racing"],
        options.question_option(
            help="k for each branch, or as many as needed to find the best branch."
        ),
    ] = "uniform",
    traces: Annotated[
        Literal["random", "on-policy", "mixed"],
        options.question_option(
            help="Switching in prefixes: random, by the team's switcher, or both in turn."
        ),
    ] = "random",
    cuts: Annotated[
        Literal["boundary", "anywhere", "comparison"],
        options.question_option(
            metavar="PLACE",
            help="Prefixes end at a patch boundary (boundary), at any token (anywhere), or where a "
            "switcher of kind mentorcollab compares patches (comparison).",
        ),
    ] = "boundary",
    concurrency: options.ConcurrencyOption = 64,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print an estimate of the work.")
    ] = False,
    runner: options.RunnerOption = "local",
    actors: options.ActorsOption = 1,
    gpus: options.GpusOption = 0,
    shard: options.ShardOption = 64,
    world: options.WorldOption = None,
    seed: options.SeedOption = None,
    set_: options.SetOption = None,
) -> None:
    """Make labels: measure the utility of each candidate's next patch.

    After a stop, the same command continues.
    """
    from taketurns.training.labels.allocation import allocation_named
    from taketurns.training.labels.job import RolloutJob, estimate_rollouts, make_rollouts

    tasks = options.load_tasks(team, task, _say, data, with_, world)
    job = RolloutJob.of(
        options.load_team(team, set_, seed),
        tasks,
        prefixes=prefixes,
        allocation=allocation_named(allocate, k),
        traces=traces,
        cut_at=cuts,
        concurrency=concurrency,
    )
    if dry_run:
        print(estimate_rollouts(job))  # noqa: T201
        return
    with options.interruptible(_say):
        ray = options.ray_settings(runner, actors, gpus, shard)
        if ray is None:
            summary = make_rollouts(job, output)
        else:
            from taketurns.integrations.ray.jobs import roll_out_on_ray

            summary = roll_out_on_ray(job, output, ray)
    if summary.lost:
        _say(f"{summary.lost} rollouts failed; their records have the number and the first reason")
    if summary.left_out:
        _say(
            f"{summary.left_out} of {prefixes} prefixes are left out, because the switcher "
            "compares no patches in their answers: for more comparisons, raise switcher.rate"
        )
    if summary.failures:
        _say(summary.failures.sentence(f"of {prefixes} prefixes failed"))
        raise typer.Exit(options.FAILED)
    _say(after_rollout(output, prefixes, team, compared=cuts == "comparison"))
