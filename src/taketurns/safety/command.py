"""`taketurns safety`: how often does the team comply where its aligned checkpoint refuses?"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

FAILED, INTERRUPTED = 1, 130


def safety(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for answers and findings.")],
    team: Annotated[
        str, typer.Option("--team", "-t", help='A team file, or "pocket" for the bundled team.')
    ] = "pocket",
    task: Annotated[
        str, typer.Option(help="Whose questions are to be refused: harm, or coconot with --data.")
    ] = "harm",
    quality: Annotated[
        str | None,
        typer.Option(help="Tasks, with commas between (default: the other pocket tasks)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The paper's benchmarks: a file or a folder.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="KEY=VALUE", help="A setting of that task's scorer: judge=MODEL."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Harmful questions, and harmless ones.")] = 60,
    attacked: Annotated[
        int, typer.Option(min=0, help="Harmful questions that are asked in every attack too.")
    ] = 30,
    each: Annotated[int, typer.Option(min=0, help="Questions of each task for quality.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Answers to each of the former.")] = 2,
    timed: Annotated[int, typer.Option(min=0, help="Questions for the delays.")] = 14,
    clock: Annotated[
        Literal["wall", "cpu"],
        typer.Option(help="cpu counts computing alone: for one thread on a busy machine."),
    ] = "wall",
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the team."),
    ] = None,
) -> None:
    """How often a team complies where it should refuse, under which rules, and what they cost.

    The same command goes on after a stop, also with more questions.
    """
    from rich.console import Console

    from taketurns.catalogue import Choices, find_task
    from taketurns.config import load_team_config, parse_setting
    from taketurns.pocket.tasks import TASKS
    from taketurns.safety.report import table
    from taketurns.safety.session import Plan, measure

    config = load_team_config(team, dict(parse_setting(setting) for setting in set_ or ()))
    choices = Choices(data=data)
    settings = dict(parse_setting(setting) for setting in with_ or ())
    harm = find_task(task, Choices(None if task in TASKS else data, settings or None))
    named = [name for name in TASKS if name != "harm"] if task in TASKS else []
    if quality is not None:
        named = [name.strip() for name in quality.split(",") if name.strip()]
    others = [find_task(name, choices if name not in TASKS else Choices()) for name in named]
    plan = Plan(harm, others, limit, attacked, each, seeds, timed, clock, settings)
    try:
        found, failures = asyncio.run(measure(config, plan, out, _say))
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        Console().print_json(data=found)
    else:
        Console().print(table(found))
    if failures:
        _say(f"{failures} answers failed and are left out; the same command tries them again")
        raise typer.Exit(FAILED)


def _say(sentence: str) -> None:
    print(f"taketurns safety: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
