"""`taketurns train`: labels in, a switcher out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

INTERRUPTED = 130


def train(
    team: Annotated[str, typer.Option("--team", "-t", help="The team the labels were made with.")],
    labels: Annotated[Path, typer.Option(help="Rollouts, as `taketurns rollout` writes them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    switcher: Annotated[
        Literal["lm", "head"], typer.Option(help="A language model, or a linear head.")
    ] = "lm",
    task: Annotated[
        list[str] | None, typer.Option(help="Learn this task alone; may be given several times.")
    ] = None,
    targets: Annotated[
        Literal["hard", "tied", "soft"],
        typer.Option(help="The best candidate, evenly the best ones, or softmax of utilities."),
    ] = "tied",
    temperature: Annotated[float, typer.Option(help="Of soft targets.")] = 0.1,
    min_margin: Annotated[
        float, typer.Option(help="Leave out prefixes where best and worst differ by less.")
    ] = 0.1,
    validation: Annotated[
        float, typer.Option(help="The share of queries that choose the epoch.")
    ] = 0.15,
    epochs: Annotated[
        int | None, typer.Option(help="At most so many (default: LoRA 5, full 6, head 60).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="(default: LoRA 2e-4, full 5e-4, head 3e-3).")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 32,
    weight_decay: Annotated[
        float | None, typer.Option(help="(default: LoRA 0, full 0.05, head 0.3).")
    ] = None,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the split, the order and the adapter.")] = 0,
    start: Annotated[
        str | None,
        typer.Option(help="lm: a candidate, path or hub id to start from (default: the last)."),
    ] = None,
    lora: Annotated[
        bool | None,
        typer.Option("--lora/--full", help="lm: (default: LoRA from 20 million parameters)."),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="lm: of the LoRA adapter.")] = 16,
    report_to: Annotated[
        str, typer.Option(help="lm: a tracker that transformers knows, as wandb or tensorboard.")
    ] = "none",
    mode: Annotated[
        Literal["speaker", "candidate"],
        typer.Option(help="head: read whoever spoke last, or always one candidate."),
    ] = "speaker",
    reader: Annotated[
        str | None,
        typer.Option(help="head: that candidate, or who reads an empty answer (default: last)."),
    ] = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(help="head: a layer to read, 0 the embedding, -1 the last; several times."),
    ] = None,
    bias: Annotated[
        bool,
        typer.Option("--bias/--no-bias", help="head: none with --layer -1 makes one to fold."),
    ] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print what was measured.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the team."),
    ] = None,
) -> None:
    """Learn a switcher from rollouts; the same command goes on after a stop."""
    from rich.console import Console

    from taketurns.config import load_team_config, parse_setting
    from taketurns.training import run
    from taketurns.training.settings import Course, HeadSettings, LMSettings, Selection

    config = load_team_config(team, dict(parse_setting(setting) for setting in set_ or ()))
    try:
        metrics = run.train(
            config,
            labels,
            output,
            LMSettings(start, lora, rank, report_to)
            if switcher == "lm"
            else HeadSettings(mode, reader, tuple(layer or ()), bias),
            Selection(targets, temperature, min_margin, tuple(task or ()), validation),
            Course(epochs, learning_rate, batch_size, weight_decay, patience, seed),
            say=_say,
        )
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        Console().print_json(data=dict(metrics))
        return
    worth, beside = metrics["validation"], metrics["standards"]
    single = max(beside["always"], key=beside["always"].__getitem__)
    _say(
        f"epoch {metrics['best_epoch']} is in {output}: utility {worth['utility']:.4f} on "
        f"validation (random {beside['random']:.4f}, always {single} "
        f"{beside['always'][single]:.4f}, best {beside['best']:.4f})"
    )


def _say(sentence: str) -> None:
    print(f"taketurns train: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
