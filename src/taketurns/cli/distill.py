"""`taketurns distill`: train one model to write like a team."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.utils.extras import TUNING, require

_say = options.say_as("distill")
_comparison = partial(typer.Option, rich_help_panel="Comparison with the team")


def distill(
    output: options.FolderOption,
    team: options.TeamOption = "pocket",
    task: options.TasksOption = None,
    data: options.DataOption = None,
    with_: options.WithOption = None,
    answers: Annotated[int, options.question_option(help="Answers to each train question.")] = 4,
    questions: Annotated[
        int | None,
        options.question_option(min=1, help="Most train questions per task (default: all)."),
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option(help="A folder for the team's answers, shared between students."),
    ] = None,
    keep: Annotated[
        Literal["auto", "score", "best"],
        options.question_option(
            help="Learn answers with --min-score, or each question's best answer (auto: best "
            "if the score is a reward)."
        ),
    ] = "auto",
    min_score: Annotated[
        float, options.question_option(help="The lowest score of a learned answer.")
    ] = 1.0,
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
        options.training_option(
            help="Learn the written tokens, the speakers' distributions, or both."
        ),
    ] = "both",
    temperature: Annotated[
        float, options.training_option(help="kl: the temperature of both distributions.")
    ] = 1.0,
    top: Annotated[
        int,
        options.training_option(help="kl: the number of most probable tokens that are learned."),
    ] = 64,
    epochs: Annotated[int | None, options.training_option(help="Epochs (default: 3).")] = None,
    learning_rate: Annotated[
        float | None,
        options.training_option(help="The learning rate (default: LoRA 2e-4, full 5e-4)."),
    ] = None,
    batch_size: Annotated[int, options.training_option(help="Answers per step.")] = 32,
    weight_decay: Annotated[
        float | None, options.training_option(help="The weight decay (default: 0).")
    ] = None,
    lora: options.LoraOption = None,
    rank: options.RankOption = 16,
    held_out: Annotated[
        float,
        options.training_option(help="The share of questions on which the loss is only measured."),
    ] = 0.05,
    split: Annotated[
        Literal["dev", "test"], _comparison(help="The split of the comparison.")
    ] = "test",
    limit: Annotated[int, _comparison(min=1, help="Questions per task in the comparison.")] = 100,
    seeds: Annotated[
        int, _comparison(min=1, help="Answers per question in the comparison, one per seed.")
    ] = 1,
    concurrency: options.ConcurrencyOption = 64,
    world: options.WorldOption = None,
    seed: Annotated[
        int, options.training_option(help="The seed of the order and of the held-out questions.")
    ] = 0,
    report_to: options.ReportToOption = "none",
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Train one checkpoint to write what the team writes.

    After a stop, the same command continues.
    """
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
