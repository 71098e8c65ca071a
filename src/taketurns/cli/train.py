"""`taketurns train`: train a switcher on labels, or an existing one on reward."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taketurns.cli import options, training_runs
from taketurns.cli.next_step import after_train
from taketurns.errors import UsageError

if TYPE_CHECKING:
    from taketurns.tasks.base import Task
    from taketurns.training.supervised.settings import (
        HeadSettings,
        JudgeSettings,
        LMSettings,
    )

_say = options.say_as("train")

_language_model = partial(
    typer.Option, rich_help_panel="A language model: --switcher lm or fusionroute"
)
_head = partial(typer.Option, rich_help_panel="A linear head: --switcher head")
_policy_gradient = partial(typer.Option, rich_help_panel="Reward: --method policy-gradient")


def train(
    team: Annotated[
        str,
        typer.Option(
            "--team",
            "-t",
            help="The team of the labels, or of the switcher to train.",
        ),
    ],
    output: options.FolderOption,
    method: Annotated[
        Literal["labels", "policy-gradient"],
        typer.Option(help="Train on labels, or train the team's switcher further on reward."),
    ] = "labels",
    labels: Annotated[
        Path | None, typer.Option(help="Labels, written by `taketurns rollout`.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Questions with answers, one JSON object a line: with --switcher deferral or "
            "fusionroute they are learned from without labels."
        ),
    ] = None,
    preferences: Annotated[
        Path | None,
        typer.Option(
            help="Questions with a chosen and a rejected answer, one JSON object a line: with "
            "--switcher fusionroute and a team that has a router."
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --switcher deferral or fusionroute and without --texts: the train questions "
            "of each task.",
        ),
    ] = 100,
    switcher: Annotated[
        Literal["lm", "head", "deferral", "mentorcollab", "fusionroute"],
        typer.Option(
            metavar="KIND",
            help="A language model (lm), a linear head (head), a head by which one of two "
            "candidates defers to the other at any token (deferral), a judge that compares the "
            "patches of two candidates (mentorcollab), or a router that picks who writes each "
            "token and adds its logits (fusionroute).",
        ),
    ] = "lm",
    task: Annotated[
        list[str] | None,
        options.question_option(
            help="A task of the labels; may be repeated (default: all). With policy-gradient, "
            "deferral and fusionroute, a task to ask (default: the pocket world's, for a team that "
            "was made for it)."
        ),
    ] = None,
    targets: Annotated[
        Literal["hard", "tied", "soft"],
        options.training_option(
            help="The best candidate, equally all best ones, or softmax of utilities."
        ),
    ] = "tied",
    temperature: Annotated[
        float, options.training_option(help="The temperature of soft targets.")
    ] = 0.1,
    min_margin: Annotated[
        float,
        options.training_option(
            help="Leave out labels whose best and worst utilities differ by less."
        ),
    ] = 0.1,
    validation: Annotated[
        float, options.training_option(help="The share of queries for selecting the epoch.")
    ] = 0.15,
    epochs: Annotated[
        int | None,
        options.training_option(help="Most epochs (default: LoRA 5, full 6, head 60)."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        options.training_option(
            help="The learning rate (default: LoRA 2e-4, full 5e-4, head 3e-3)."
        ),
    ] = None,
    batch_size: Annotated[int, options.training_option(help="Examples per step.")] = 32,
    weight_decay: Annotated[
        float | None,
        options.training_option(help="The weight decay (default: LoRA 0, full 0.05, head 0.3)."),
    ] = None,
    patience: Annotated[
        int,
        options.training_option(help="Stop after this many epochs without improvement."),
    ] = 5,
    seed: Annotated[
        int, options.training_option(help="The seed of the split, the order and the adapter.")
    ] = 0,
    start: Annotated[
        str | None,
        _language_model(help="A candidate, path or hub id to start from (default: the last)."),
    ] = None,
    lora: Annotated[
        bool | None,
        _language_model(
            "--lora/--full",
            help="A LoRA adapter or all weights (default: LoRA from 20 million parameters).",
        ),
    ] = None,
    rank: Annotated[int, _language_model(min=1, help="The rank of the LoRA adapter.")] = 16,
    report_to: Annotated[
        str, _language_model(help="A tracker of transformers, such as wandb or tensorboard.")
    ] = "none",
    beta: Annotated[
        float,
        _language_model(
            help="With --preferences or --task: how far the router may move, as in DPO (less is "
            "farther)."
        ),
    ] = 0.1,
    mode: Annotated[
        Literal["speaker", "candidate"],
        _head(help="Read the last speaker, or always one candidate."),
    ] = "speaker",
    reader: Annotated[
        str | None,
        _head(
            help="That candidate, or the one that reads an empty answer (default: the last). With "
            "--switcher deferral, the one that defers (default: the first)."
        ),
    ] = None,
    layer: Annotated[
        list[int] | None,
        _head(help="A layer to read, 0 the embedding, -1 the last; may be repeated."),
    ] = None,
    bias: Annotated[
        bool,
        _head(
            "--bias/--no-bias",
            help="With a bias; --no-bias and --layer -1 make a head for `taketurns export`.",
        ),
    ] = True,
    data: options.DataOption = None,
    with_: options.WithOption = None,
    steps: Annotated[int, _policy_gradient(help="Steps, each of answers and an update.")] = 60,
    questions: Annotated[int, _policy_gradient(help="Questions per step.")] = 32,
    answers: Annotated[
        int,
        _policy_gradient(
            help="Answers per question and step. With --switcher fusionroute, answers per question "
            "to compare."
        ),
    ] = 8,
    kl: Annotated[
        float,
        _policy_gradient(help="The weight of the KL penalty towards the start."),
    ] = 0.02,
    switch_cost: Annotated[
        float,
        _policy_gradient(help="The reward lost per change of speaker."),
    ] = 0.0,
    price: Annotated[
        list[str] | None,
        _policy_gradient(
            metavar="NAME=PRICE",
            help="The reward lost per token of this candidate; may be repeated.",
        ),
    ] = None,
    checked: Annotated[
        int,
        _policy_gradient(help="Held-out questions per task for selecting the step."),
    ] = 20,
    check_every: Annotated[int, _policy_gradient(help="Steps between these checks.")] = 10,
    world: options.WorldOption = None,
    json_: options.JsonOption = False,
    set_: options.SetOption = None,
) -> None:
    """Train a switcher on labels, or on the reward of whole answers.

    After a stop, the same command continues.
    """
    from taketurns.tasks.defaults import pocket_tasks
    from taketurns.training.deferral.run import DeferralSettings
    from taketurns.training.distillation.settings import SamplingConfig
    from taketurns.training.fusionroute.improve import PreferenceSettings
    from taketurns.training.fusionroute.output import RouterSettings
    from taketurns.training.policy_gradient.settings import PolicyGradientConfig
    from taketurns.training.supervised.settings import (
        HeadSettings,
        JudgeSettings,
        LMSettings,
        Selection,
        TrainingConfig,
    )

    def _settings() -> LMSettings | HeadSettings | JudgeSettings:
        if switcher == "lm":
            return LMSettings(start, lora, rank, report_to)
        if switcher == "mentorcollab":
            return JudgeSettings(tuple(layer or (-1,)))
        return HeadSettings(mode, reader, tuple(layer or ()), bias)

    def _training() -> TrainingConfig:
        return TrainingConfig(epochs, learning_rate, batch_size, weight_decay, seed, patience)

    def _tasks() -> list[Task]:
        return options.load_tasks(team, task, _say, data, with_, world)

    config = options.load_team(team, set_)
    if preferences is not None and (switcher != "fusionroute" or method != "labels"):
        raise UsageError(
            "--preferences are for a router: add --switcher fusionroute and leave out --method, or "
            "leave out --preferences"
        )
    with options.interruptible(_say):
        if method == "policy-gradient":
            for given, option in ((labels, "--labels"), (texts, "--texts")):
                if given is not None:
                    raise UsageError(
                        f"--method policy-gradient learns from questions: leave out {option}"
                    )
            prices = dict(map(_priced, price or ()))
            metrics, summary = training_runs.from_reward(
                config,
                _tasks(),
                output,
                PolicyGradientConfig(
                    steps=steps,
                    questions=questions,
                    answers=answers,
                    learning_rate=learning_rate,
                    kl=kl,
                    switch_cost=switch_cost,
                    prices=prices,
                    check_every=check_every,
                    checked=checked,
                    seed=seed,
                ),
            )
        elif switcher == "fusionroute":
            if labels is not None or (texts is not None and preferences is not None):
                raise UsageError(
                    "--switcher fusionroute learns from --texts, and a team with a router from "
                    "--preferences or the questions of --task: leave out the other options"
                )
            if texts is None and config.switcher.kind != "fusionroute":
                raise UsageError(
                    "a router learns from texts first: give them with --texts; a team with a "
                    "router (name its folder with --team) then learns from --preferences, or from "
                    "its own answers to the questions of --task"
                )
            router = RouterSettings(LMSettings(start, lora, rank, report_to), validation)
            if texts is not None:
                metrics, summary = training_runs.router_from_texts(
                    config, texts, output, router, _training()
                )
            else:
                metrics, summary = training_runs.router_from_preferences(
                    config,
                    preferences if preferences is not None else _tasks(),
                    output,
                    PreferenceSettings(router, beta, SamplingConfig(answers, limit)),
                    _training(),
                )
        elif switcher == "deferral" or texts is not None:
            if switcher != "deferral" or labels is not None:
                raise UsageError(
                    "--switcher deferral learns from --texts or the questions of --task, and other "
                    "switchers from --labels: leave out the other option"
                )
            metrics, summary = training_runs.to_defer(
                config,
                texts if texts is not None else _tasks(),
                output,
                DeferralSettings(reader, tuple(layer or (-1,)), validation),
                limit,
                _training(),
            )
        else:
            if labels is None:
                raise UsageError("the labels to train on are missing: give them with --labels")
            metrics, summary = training_runs.from_labels(
                config,
                labels,
                output,
                _settings(),
                Selection(targets, temperature, min_margin, tuple(task or ()), validation),
                _training(),
            )
    if json_:
        options.print_json(metrics)
        return
    _say(summary)
    _say(after_train(output, () if pocket_tasks(str(output)) else tuple(task or ("TASK",))))


def _priced(text: str) -> tuple[str, float]:
    """`NAME=PRICE`. Raises UsageError."""
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise UsageError(f"a price is written NAME=PRICE, not {text!r}") from None
