"""`taketurns pocket`: the bundled miniature pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taketurns.cli import options
from taketurns.cli.examples import example_of
from taketurns.cli.moved import moved_command

if TYPE_CHECKING:
    from taketurns.pocket.score import MethodScores

PocketWorldOption = Annotated[
    int,
    options.question_option(
        min=0, help="The pocket world of the questions, by the --seed of its build."
    ),
]

pocket = typer.Typer(
    no_args_is_help=True,
    help="Show the pocket team at work, and score it.",
)
moved_command(pocket, "build", "python -m recipes.pocket")


@pocket.command(epilog=example_of("pocket demo"))
def demo(
    team: options.TeamOption = "pocket",
    each: Annotated[int, options.question_option(min=1, help="Questions per task.")] = 8,
) -> None:
    """Show the team and each checkpoint alone on held-out questions."""
    import asyncio

    from rich.console import Console

    from taketurns.cli.demo import show
    from taketurns.generation.team import Team
    from taketurns.pocket import TASKS

    async def run() -> None:
        async with Team.load(options.load_team(team)) as loaded:
            await show(loaded, list(TASKS.values()), Console(), each=each)

    asyncio.run(run())


@pocket.command(epilog=example_of("pocket gates"))
def gates(
    team: options.TeamOption = "pocket",
    questions: Annotated[int, options.question_option(min=1, help="Test questions per task.")] = 15,
    samples: Annotated[
        int, options.question_option(min=1, help="Answers per question and system.")
    ] = 64,
    json_: options.JsonOption = False,
) -> None:
    """Compare random switching with each checkpoint, by the best of n.

    Does random switching solve what no checkpoint solves in as many answers?
    """
    import asyncio

    from taketurns.cli.terminal import gate_table
    from taketurns.generation.team import Team
    from taketurns.pocket import TASKS
    from taketurns.pocket.best_of import BestOf, best_of
    from taketurns.runs.progress import Progress

    async def run() -> BestOf:
        settings = ["engine.deterministic=false", "engine.max_batch=256"]
        async with Team.load(options.load_team(team, settings)) as loaded:
            total = len(TASKS) * questions * samples * (len(loaded.candidates) + 1)
            with Progress("sampling", total) as progress:
                return await best_of(
                    loaded, TASKS, questions=questions, samples=samples, on_done=progress.advance
                )

    result = asyncio.run(run()).to_json()
    options.print_result(result, lambda: gate_table(result), as_json=json_)


@pocket.command(epilog=example_of("pocket relabel"))
def relabel(
    labels: Annotated[Path, typer.Option(help="Rollouts of the pocket tasks.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The same records with utilities by rule."),
    ],
    recaller: Annotated[
        str,
        typer.Option(help="The candidate that recalls best; the others have tuned skills."),
    ] = "pretrained",
    world: PocketWorldOption = 0,
) -> None:
    """Label prefixes by rules that know the right answer.

    Labels from rollouts are compared with these.
    """
    from taketurns.pocket.skills import relabel as by_rules
    from taketurns.pocket.tasks import tasks_named
    from taketurns.runs.output import without_repeats
    from taketurns.runs.records import decode_records, encode_record

    tasks = {task.name: task for task in tasks_named(None, world)}
    lines = options.read_bytes(str(labels)).splitlines(keepends=True)
    relabelled = by_rules(without_repeats(decode_records(lines, str(labels))), tasks, recaller)
    options.write_lines(output, list(map(encode_record, relabelled)))


@pocket.command(epilog=example_of("pocket score"))
def score(
    team: options.TeamOption = "pocket",
    methods: Annotated[
        str,
        typer.Option(
            show_default=False,
            help="Candidates, random, untuned, switch-global, …-practised, …-lm, …-task, with "
            "commas between (default: the candidates, random, untuned, switch-global).",
        ),
    ] = "pretrained,sft,aligned,random,untuned,switch-global",
    task: Annotated[
        list[str] | None,
        options.question_option(help="A task; may be repeated (default: all)."),
    ] = None,
    split: options.SplitOption = "test",
    limit: Annotated[
        int | None, options.question_option(min=1, help="Questions per task (default: all).")
    ] = None,
    seeds: Annotated[
        int, options.question_option(min=1, help="Answers per question, one per seed.")
    ] = 1,
    switchers: Annotated[
        Path | None, typer.Option(help="A folder with trained switchers by name.")
    ] = None,
    switcher: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A trained switcher, as the method NAME."),
    ] = None,
    world: PocketWorldOption = 0,
    values: Annotated[
        Path | None,
        typer.Option(
            help="Write the score of each answer there, as JSON by method, task, question and seed."
        ),
    ] = None,
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Score checkpoints alone and switching, with 95 % intervals."""
    import asyncio

    from taketurns.evaluation.methods.trained import parse_switcher
    from taketurns.pocket.score import Methods
    from taketurns.pocket.score import score as measure
    from taketurns.pocket.tasks import tasks_named
    from taketurns.runs.progress import Progress

    tasks = {each.name: each for each in tasks_named(task, world)}
    extra = dict(parse_switcher(text) for text in switcher or ())
    named = [method.strip() for method in methods.split(",")]
    systems = Methods(options.load_team(team, set_), named, list(tasks), switchers, extra)
    questions = sum(len(each.queries(split)[:limit]) for each in tasks.values())

    async def run() -> MethodScores:
        with Progress("answering", questions * seeds * len(named)) as progress:
            try:
                return await measure(
                    systems.teams,
                    tasks,
                    split=split,
                    limit=limit,
                    seeds=seeds,
                    on_done=progress.advance,
                )
            finally:
                await systems.engine.close()

    scores = asyncio.run(run())
    if values is not None:
        scores.write(values)
    options.print_result(scores.to_json(), scores.table, as_json=json_)
