"""`taketurns experiment`: experiments that need new answers of a team."""

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
            help="Some of sequences, helpfulness, decisions, generalisation, separated by commas."
        ),
    ] = None,
    task: options.TasksOption = None,
    data: options.DataOption = None,
    split: options.SplitOption = "test",
    limit: Annotated[
        int,
        options.question_option(min=2, help="Questions per task, answered under every condition."),
    ] = 60,
    trials: Annotated[
        int,
        options.question_option(
            min=1, help="Patch boundaries per task at which a sequence is forced."
        ),
    ] = 120,
    prefixes: Annotated[int, options.question_option(min=1, help="Decision points per task.")] = 25,
    k: Annotated[
        int, options.question_option(min=2, help="Rollouts per branch of a decision point.")
    ] = 16,
    traces: Annotated[
        Literal["on-policy", "random"],
        options.question_option(
            help="Switching before and after a decision point: the switcher's, or random."
        ),
    ] = "on-policy",
    labels: Annotated[
        Path | None,
        options.question_option(
            help="Labels of the train split, to retrain heads on parts of the pool."
        ),
    ] = None,
    rollouts: Annotated[
        Path | None,
        options.question_option(help="Existing rollouts of decision points, in place of new."),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL", help="Another model in a candidate's place; may be repeated."
        ),
    ] = None,
    concurrency: options.ConcurrencyOption = 96,
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Test what helps: force speakers, leave candidates out.

    After a stop, the same command continues, also with more questions or other experiments.
    `taketurns analyze` shows the results in the folder's report.
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
            raise UsageError(
                f"there is no experiment {word!r}; the experiments are {', '.join(KINDS)}"
            )
    return [kind for kind in KINDS if kind in wanted]
