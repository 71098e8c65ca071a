"""`taketurns distill`: train one model to write like a team."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.utils.extras import TUNING, require

_say = options.say_as("distill")


def distill(
    output: options.FolderOption,
    team: options.TeamOption = "pocket",
    task: options.TasksOption = None,
    data: options.DataOption = None,
    with_: options.WithOption = None,
    answers: Annotated[int, typer.Option(help="Answers to each train question.")] = 4,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Most train questions per task (default: all).")
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option(help="A folder for the team's answers, shared between students."),
    ] = None,
    keep: Annotated[
        Literal["auto", "score", "best"],
        typer.Option(
            help="Learn answers with --min-score, or each question's best answer (auto: best if "
            "the score is a reward)."
        ),
    ] = "auto",
    min_score: Annotated[float, typer.Option(help="The lowest score of a learned answer.")] = 1.0,
    aligned: Annotated[
        str | None,
        typer.Option(help="The candidate that the student replaces (default: the last)."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="A candidate, path or hub id to start from (default: --aligned)."),
    ] = None,
    loss: Annotated[
        Literal["sft", "kl", "both"],
        typer.Option(help="Learn the written tokens, the speakers' distributions, or both."),
    ] = "both",
    temperature: Annotated[
        float, typer.Option(help="kl: the temperature of both distributions.")
    ] = 1.0,
    top: Annotated[
        int, typer.Option(help="kl: the number of most probable tokens that are learned.")
    ] = 64,
    epochs: Annotated[int | None, typer.Option(help="Epochs (default: 3).")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The learning rate (default: LoRA 2e-4, full 5e-4).")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Answers per step.")] = 32,
    weight_decay: Annotated[
        float | None, typer.Option(help="The weight decay (default: 0).")
    ] = None,
    lora: Annotated[
        bool | None,
        typer.Option(
            "--lora/--full",
            help="Train a LoRA adapter or all weights (default: LoRA from 20 million parameters).",
        ),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="The rank of the LoRA adapter.")] = 16,
    held_out: Annotated[
        float, typer.Option(help="The share of questions on which the loss is only measured.")
    ] = 0.05,
    split: Annotated[
        Literal["dev", "test"], typer.Option(help="The split of the comparison.")
    ] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Questions per task in the comparison.")] = 100,
    seeds: Annotated[
        int, typer.Option(min=1, help="Answers per question in the comparison, one per seed.")
    ] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Concurrent answers.")] = 64,
    world: options.WorldOption = None,
    seed: Annotated[
        int, typer.Option(help="The seed of the order and of the held-out questions.")
    ] = 0,
    report_to: Annotated[
        str, typer.Option(help="A tracker of transformers, such as wandb or tensorboard.")
    ] = "none",
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Train one checkpoint to write like the team; after a stop, the same command continues."""
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

    config = options.load_team(team, set_)
    job = DistillJob(
        config,
        options.load_tasks(team, task, _say, data, with_, world),
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
    with options.interruptible(_say):
        metrics = run(job, output, compare, _say)
    if json_:
        options.print_json(metrics)
        return
    for line in gain_lines(metrics["comparison"], metrics["student"]["in_place_of"]):
        _say(line)
