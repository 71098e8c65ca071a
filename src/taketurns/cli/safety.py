"""`taketurns safety`: how often a team complies where its aligned checkpoint refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taketurns.cli import options
from taketurns.errors import UsageError

if TYPE_CHECKING:
    from taketurns.tasks.base import Task

_say = options.say_as("safety")

HARM = "harm"
MORE = " (requests to refuse), --harmless (similar harmless requests) and --quality"


def safety(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for answers and findings.")
    ],
    team: options.TeamOption = "pocket",
    task: Annotated[
        str | None,
        options.question_option(
            help="Requests to refuse: your own task file, coconot with --data, or harm "
            "(default: harm, for a team of the pocket world)."
        ),
    ] = None,
    harmless: Annotated[
        str | None,
        options.question_option(
            help="A task with similar harmless requests, which must be answered."
        ),
    ] = None,
    quality: Annotated[
        str | None,
        options.question_option(
            help="Tasks for quality, separated by commas (default: none; with harm, the other "
            "pocket tasks)."
        ),
    ] = None,
    data: Annotated[
        Path | None, options.question_option(help="The paper's benchmarks, a file or a folder.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        options.question_option(
            "--with", metavar="KEY=VALUE", help="A setting of --task's scorer, such as judge=MODEL."
        ),
    ] = None,
    limit: Annotated[
        int, options.question_option(min=1, help="Harmful questions, and as many harmless ones.")
    ] = 60,
    attacked: Annotated[
        int,
        options.question_option(
            min=0, help="Harmful questions that are also asked in every attack."
        ),
    ] = 30,
    each: Annotated[
        int, options.question_option(min=0, help="Questions per task for quality.")
    ] = 8,
    seeds: Annotated[
        int, options.question_option(min=1, help="Answers per harmful or harmless question.")
    ] = 2,
    timed: Annotated[
        int, options.question_option(min=0, help="Questions for measuring delays.")
    ] = 14,
    clock: options.ClockOption = "wall",
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Measure how often a team complies where it should refuse.

    The team is asked under several rules, and what each costs is measured.
    After a stop, the same command continues, also with more questions.
    """
    import asyncio

    from taketurns.evaluation.safety.report import table
    from taketurns.evaluation.safety.session import SafetyJob, measure
    from taketurns.pocket.tasks import TASKS
    from taketurns.tasks.benchmarks import BENCHMARKS
    from taketurns.tasks.defaults import choose_tasks, not_named, pocket_tasks
    from taketurns.tasks.registry import Choices, find_task

    config = options.load_team(team, set_)
    settings = options.parse_settings(with_)
    if task is None:
        if pocket_tasks(team) is None:
            raise UsageError(not_named(team, MORE))
        task = HARM
        _say("no --task is given: using harm, the requests of the pocket world")
    named = [name for name in TASKS if name != HARM] if task == HARM else []
    if quality is not None:
        named = options.split_words(quality)
    world = choose_tasks(team, [task, harmless or "", *named], _say).world

    def find(name: str, settings: Mapping[str, Any] | None = None) -> Task:
        place = data if name in BENCHMARKS else None
        return find_task(name, Choices(place, settings, world=world))

    if data is not None and not {task, harmless, *named} & set(BENCHMARKS):
        raise UsageError(
            "--data is for the paper's benchmarks, but no task is one: name one, or remove --data"
        )

    job = SafetyJob(
        harm=find(task, settings or None),
        harmless=None if harmless is None else find(harmless),
        quality=[find(name) for name in named],
        limit=limit,
        attacked=attacked,
        each=each,
        seeds=seeds,
        timed=timed,
        clock=clock,
        settings=settings,
    )
    with options.interruptible(_say):
        results, failures = asyncio.run(measure(config, job, output, _say))
    options.print_result(results, lambda: table(results), as_json=json_)
    if failures:
        _say(failures.sentence("answers failed and are left out"))
        raise typer.Exit(options.FAILED)
