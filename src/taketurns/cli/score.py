"""`taketurns score`: score existing answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from taketurns.evaluation.scoring.scorecard import Scorecard

_say = options.say_as()

ScoringOption = Annotated[
    Literal["ours", "moco"],
    options.question_option(
        help="moco: the scoring of the paper's authors, with its faults, to compare."
    ),
]


def score(
    task: Annotated[str, typer.Option(help="A task's name, or your own task's YAML file.")],
    answers: Annotated[
        str, typer.Option(help='Answers, one {"id", "text"} per line; - is standard input.')
    ],
    data: options.DataOption = None,
    split: options.SplitOption = "test",
    limit: Annotated[
        int | None,
        options.question_option(min=1, help="Score only the first questions, up to this number."),
    ] = None,
    scoring: ScoringOption = "ours",
    with_: options.WithOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for each answer's score.")
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Score existing answers, from any source."""
    from rich.console import Console

    from taketurns.evaluation.scoring.answers import match_answers
    from taketurns.evaluation.scoring.scorecard import score_answers
    from taketurns.runs.progress import Progress
    from taketurns.runs.records import encode_record
    from taketurns.tasks.base import GroupTask
    from taketurns.tasks.registry import find_task

    scored_task = find_task(task, options.task_choices(data, with_, scoring))
    queries = scored_task.queries(split)[:limit]
    if not queries:
        raise UsageError(
            f"the task {scored_task.name!r} has no questions in its {split} split: choose another "
            "--split"
        )
    matched = match_answers(
        options.read_bytes(answers, DataError),
        answers,
        queries,
        several=isinstance(scored_task, GroupTask),
    )
    with Progress("scoring", len(matched)) as progress:
        card = score_answers(scored_task, split, matched, progress.advance)
    if output is not None:
        options.write_lines(
            output, [encode_record(score.to_json()) for score in card.scored], DataError
        )
    if json_:
        print(json.dumps(card.to_json(), ensure_ascii=False))  # noqa: T201
        return
    Console().print(_summary(card))
    for note in card.notes:
        _say(note)


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
