"""`taketurns score`: answers in, a score out; `taketurns tasks`: what can be scored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from taketurns.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from taketurns.evaluation.scoring.scorecard import Scorecard
    from taketurns.tasks.registry import Choices

TaskOption = Annotated[str, typer.Option(help="A task's name, or the YAML file of your own.")]
DataOption = Annotated[
    Path | None,
    typer.Option(help="The authors' JSON of a benchmark, or a folder with it (default: the hub)."),
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="KEY=VALUE", help="A setting of the scorer, as model=DIR."),
]
ScoringOption = Annotated[
    Literal["ours", "moco"],
    typer.Option(help="moco: as the paper's authors scored, faults included, to compare."),
]


def score(
    task: TaskOption,
    answers: Annotated[
        str, typer.Option(help='Answers, {"id", "text"} a line; - is standard input.')
    ],
    data: DataOption = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option()] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    scoring: ScoringOption = "ours",
    with_: WithOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write each answer's score here.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Score answers that are there already, whoever wrote them."""
    from rich.console import Console

    from taketurns.evaluation.scoring.answers import match_answers
    from taketurns.evaluation.scoring.scorecard import score_answers
    from taketurns.runs.terminal import Progress
    from taketurns.tasks.base import GroupTask
    from taketurns.tasks.registry import find_task

    found = find_task(task, choices(data, with_, scoring))
    queries = found.queries(split)[:limit]
    if not queries:
        raise UsageError(f"task {found.name!r} has no questions in its {split} split")
    given = match_answers(_read(answers), answers, queries, several=isinstance(found, GroupTask))
    with Progress("scoring", len(given)) as progress:
        card = score_answers(found, split, given, progress.advance)
    if output is not None:
        _write(output, card)
    if json_:
        print(json.dumps(card.to_json(), ensure_ascii=False))  # noqa: T201
        return
    Console().print(_summary(card))
    for note in card.notes:
        print(f"taketurns: {note}", file=sys.stderr)  # noqa: T201


def tasks(
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the tasks and the scorers there are."""
    from rich.console import Console

    from taketurns.tasks.registry import listing
    from taketurns.tasks.scorers.registry import SCORERS, settings_of

    if json_:
        scorers = {name: settings_of(name) for name in SCORERS}
        record = {"tasks": listing(), "scorers": {k: list(v) for k, v in scorers.items()}}
        print(json.dumps(record, ensure_ascii=False))  # noqa: T201
        return
    console = Console()
    console.print(_task_table(listing()))
    console.print(_scorer_table())


def choices(
    data: Path | None,
    settings: list[str] | None,
    scoring: Literal["ours", "moco"] = "ours",
    *,
    scored: bool = True,
    world: int = 0,
) -> Choices:
    """What a command's options say of its tasks. Raises UsageError."""
    from taketurns.config.settings import parse_setting
    from taketurns.tasks.registry import Choices

    given = dict(parse_setting(setting) for setting in settings or ())
    return Choices(data, given or None, scoring, scored, world)


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}") from error


def _write(path: Path, card: Scorecard) -> None:
    from taketurns.runs.records import to_line

    try:
        path.write_bytes(b"".join(to_line(one.to_json()) for one in card.scored))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def _summary(card: Scorecard) -> Table:
    from rich.table import Table

    result = card.to_json()
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("task", f"{card.task}, {card.split}")
    table.add_row("scorer", card.scorer)
    if result["mean"] is not None:
        low, high = result["interval"]
        table.add_row("mean", f"{result['mean']:.3f} (95 % {low:.3f}-{high:.3f})")
    table.add_row("questions", str(result["n"]))
    rate = result["parse_failure_rate"]
    table.add_row(
        "no answer found in", f"{card.parse_failures} of {result['answers']} ({rate:.1%})"
    )
    if card.unscored:
        table.add_row("could not be scored", str(card.unscored))
    for name, value in card.measures.items():
        table.add_row(name, f"{value:.4f}")
    return table


def _task_table(listed: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, title="tasks", title_justify="left")
    for column in ("task", "scorer", "data"):
        table.add_column(column, no_wrap=True)
    for task in listed:
        table.add_row(task["task"], task["scorer"], task["data"])
    return table


def _scorer_table() -> Table:
    from rich.table import Table

    from taketurns.tasks.scorers.registry import SCORERS, settings_of

    table = Table(box=None, title="scorers", title_justify="left")
    for column in ("scorer", "settings (--with KEY=VALUE)"):
        table.add_column(column, no_wrap=True)
    for name in SCORERS:
        known = settings_of(name)
        table.add_row(name, ", ".join(f"{key}{'!' * needed}" for key, needed in known.items()))
    table.caption = "! must be given"
    return table
