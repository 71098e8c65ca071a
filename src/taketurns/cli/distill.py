"""`taketurns distill`: a team in, one model that writes like it out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli.options import TASKS_HELP, NamedWorldOption
from taketurns.cli.score import DataOption, WithOption, choices
from taketurns.utils.extras import TUNING, require

INTERRUPTED = 130


def distill(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    team: Annotated[
        str, typer.Option("--team", "-t", help='A team file, or "pocket" for the bundled team.')
    ] = "pocket",
    task: Annotated[
        list[str] | None,
        typer.Option(help=TASKS_HELP),
    ] = None,
    data: DataOption = None,
    with_: WithOption = None,
    answers: Annotated[int, typer.Option(help="Answers to each train question.")] = 4,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many train questions a task.")
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option(help="A folder for the team's answers, to share them between students."),
    ] = None,
    keep: Annotated[
        Literal["auto", "score", "best"],
        typer.Option(help="Answers of --min-score, or each question's best (auto: by a reward)."),
    ] = "auto",
    min_score: Annotated[float, typer.Option(help="Keep answers of this score or more.")] = 1.0,
    aligned: Annotated[
        str | None, typer.Option(help="Whose place the student takes (default: the last).")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="A candidate, path or hub id to start from (default: the aligned one)."),
    ] = None,
    loss: Annotated[
        Literal["sft", "kl", "both"],
        typer.Option(help="What was written, what its speakers would have written, or both."),
    ] = "both",
    temperature: Annotated[float, typer.Option(help="kl: of both distributions.")] = 1.0,
    top: Annotated[int, typer.Option(help="kl: tokens of a distribution told apart.")] = 64,
    epochs: Annotated[int | None, typer.Option(help="(default: 3).")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="(default: LoRA 2e-4, full 5e-4).")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Answers a step.")] = 32,
    weight_decay: Annotated[float | None, typer.Option(help="(default: 0).")] = None,
    lora: Annotated[
        bool | None,
        typer.Option("--lora/--full", help="(default: LoRA from 20 million parameters)."),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of the LoRA adapter.")] = 16,
    held_out: Annotated[
        float, typer.Option(help="The share of questions on which the loss is only measured.")
    ] = 0.05,
    split: Annotated[
        Literal["dev", "test"], typer.Option(help="The questions of the comparison.")
    ] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Of them, so many a task.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Answers to each, of as many seeds.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers under way at a time.")] = 64,
    world: NamedWorldOption = None,
    seed: Annotated[int, typer.Option(help="Of the order and the held-out questions.")] = 0,
    report_to: Annotated[
        str, typer.Option(help="A tracker that transformers knows, as wandb or tensorboard.")
    ] = "none",
    json_: Annotated[bool, typer.Option("--json", help="Print what was measured.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the team."),
    ] = None,
) -> None:
    """Teach one checkpoint to write what the team writes; the same command goes on after a stop."""
    from rich.console import Console

    from taketurns.config.team_config import load_team_config, parse_setting
    from taketurns.tasks.defaults import choose_tasks
    from taketurns.tasks.registry import find_tasks
    from taketurns.training.distillation.settings import (
        ComparisonConfig,
        FilterConfig,
        SamplingConfig,
        StudentConfig,
    )
    from taketurns.training.distillation.summary import gain_lines

    require("distilling", *TUNING)
    from taketurns.evaluation.distillation import compare
    from taketurns.training.distillation.run import DistillJob
    from taketurns.training.distillation.run import distill as run

    config = load_team_config(team, dict(parse_setting(setting) for setting in set_ or ()))
    asked = choose_tasks(team, task or (), _say, world)
    order = DistillJob(
        config,
        find_tasks(asked.names, choices(data, with_, world=asked.world)),
        SamplingConfig(answers, questions, concurrency),
        FilterConfig(keep, min_score),
        StudentConfig(
            student=student,
            loss=loss,
            temperature=temperature,
            top=top,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            weight_decay=weight_decay,
            lora=lora,
            rank=rank,
            held_out=held_out,
            seed=seed,
            report_to=report_to,
        ),
        ComparisonConfig(split, limit, seeds, concurrency),
        aligned,
        shared,
    )
    try:
        metrics = run(order, output, compare, _say)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        Console().print_json(data=dict(metrics))
        return
    for line in gain_lines(metrics["comparison"], metrics["student"]["in_place_of"]):
        _say(line)


def _say(sentence: str) -> None:
    print(f"taketurns distill: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
