"""`taketurns safety`: how often does the team comply where its aligned checkpoint refuses?"""

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
MORE = " (requests to be refused), --harmless (such that look like them) and --quality"


def safety(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for answers and findings.")
    ],
    team: options.TeamOption = "pocket",
    task: Annotated[
        str | None,
        options.question_option(
            help="Requests to be refused: a task file of your own, coconot with --data, or harm "
            "(default: harm, for a team of the pocket world)."
        ),
    ] = None,
    harmless: Annotated[
        str | None,
        options.question_option(
            help="Harmless requests that look like them and are to be answered: another task."
        ),
    ] = None,
    quality: Annotated[
        str | None,
        options.question_option(
            help="Tasks for quality, with commas between (default: none; with harm, the other "
            "pocket tasks)."
        ),
    ] = None,
    data: Annotated[
        Path | None, options.question_option(help="The paper's benchmarks: a file or a folder.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        options.question_option(
            "--with", metavar="KEY=VALUE", help="A setting of the scorer of --task, as judge=MODEL."
        ),
    ] = None,
    limit: Annotated[
        int, options.question_option(min=1, help="Harmful questions, and as many harmless ones.")
    ] = 60,
    attacked: Annotated[
        int,
        options.question_option(min=0, help="Harmful questions that each attack asks too."),
    ] = 30,
    each: Annotated[
        int, options.question_option(min=0, help="Questions of each task for quality.")
    ] = 8,
    seeds: Annotated[
        int, options.question_option(min=1, help="Answers to each question, of as many seeds.")
    ] = 2,
    timed: Annotated[
        int, options.question_option(min=0, help="Questions on which delays are measured.")
    ] = 14,
    clock: options.ClockOption = "wall",
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Measure how often a team complies where it should refuse.

    The team is asked under several rules, and what each costs is measured.
    The same command goes on after a stop, also with more questions.
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
        _say("no --task is named: asking the requests of the pocket world, harm")
    named = [name for name in TASKS if name != HARM] if task == HARM else []
    if quality is not None:
        named = options.split_words(quality)
    world = choose_tasks(team, [task, harmless or "", *named], _say).world

    def find(name: str, settings: Mapping[str, Any] | None = None) -> Task:
        place = data if name in BENCHMARKS else None
        return find_task(name, Choices(place, settings, world=world))

    if data is not None and not {task, harmless, *named} & set(BENCHMARKS):
        raise UsageError("--data is for the paper's benchmarks, and none is named")

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
