"""What `taketurns train` starts: each function returns the metrics, and a sentence about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.cli import options

if TYPE_CHECKING:
    from taketurns.config.team_config import TeamConfig
    from taketurns.tasks.base import Task
    from taketurns.training.deferral.run import DeferralSettings
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

_say = options.say_as("train")


def from_labels(
    team: TeamConfig,
    labels: Path,
    output: Path,
    settings: LMSettings | HeadSettings | JudgeSettings,
    selection: Selection,
    training: TrainingConfig,
) -> tuple[Mapping[str, Any], str]:
    """Train on labels."""
    from taketurns.training.supervised import run

    metrics = run.train(team, labels, output, settings, selection, training, say=_say)
    worth, beside = metrics["validation"], metrics["standards"]
    single = max(beside["always"], key=beside["always"].__getitem__)
    return metrics, (
        f"epoch {metrics['best_epoch']} is in {output}: utility {worth['utility']:.4f} on "
        f"validation (random {beside['random']:.4f}, always {single} "
        f"{beside['always'][single]:.4f}, best {beside['best']:.4f})"
    )


def from_reward(
    team: TeamConfig, tasks: Sequence[Task], output: Path, config: PolicyGradientConfig
) -> tuple[Mapping[str, Any], str]:
    """Train on reward."""
    from taketurns.training.policy_gradient.run import train_on_reward

    metrics = train_on_reward(team, tasks, output, config, say=_say)
    before, *_ = checks = metrics["checks"]
    best = next(check for check in checks if check["step"] == metrics["best_step"])
    return metrics, (
        f"step {metrics['best_step']} is in {output}: reward {best['reward']:.4f} on validation "
        f"questions, {before['reward']:.4f} before"
    )


def to_defer(
    team: TeamConfig,
    source: Path | Sequence[Task],
    output: Path,
    settings: DeferralSettings,
    limit: int,
    training: TrainingConfig,
) -> tuple[Mapping[str, Any], str]:
    """Train a deferral head on texts or tasks."""
    from taketurns.training.deferral.run import train_on_divergences, train_on_texts

    if isinstance(source, Path):
        metrics = train_on_texts(team, source, output, settings, training, _say)
    else:
        metrics = train_on_divergences(team, source, output, limit, settings, training, _say)
    loss, half = metrics["validation"]["loss"], metrics["standards"]["half"]
    return metrics, (
        f"epoch {metrics['best_epoch']} is in {output}: loss {loss:.4f} on validation texts, with "
        f"probability one half everywhere {half:.4f}"
    )


def router_from_texts(
    team: TeamConfig,
    texts: Path,
    output: Path,
    settings: RouterSettings,
    training: TrainingConfig,
) -> tuple[Mapping[str, Any], str]:
    """Train a router on texts."""
    from taketurns.training.fusionroute.run import train_router

    metrics = train_router(team, texts, output, settings, training, _say)
    alone = metrics["standards"]["alone"]
    best = min(alone, key=alone.__getitem__)
    return metrics, (
        f"epoch {metrics['best_epoch']} is in {output}: loss {metrics['validation']['loss']:.4f} "
        f"on validation texts, {best} alone {alone[best]:.4f}"
    )


def router_from_preferences(
    team: TeamConfig,
    source: Path | Sequence[Task],
    output: Path,
    settings: PreferenceSettings,
    training: TrainingConfig,
) -> tuple[Mapping[str, Any], str]:
    """Train a router on preferences."""
    from taketurns.training.fusionroute.improve import improve_router

    metrics = improve_router(team, source, output, settings, training, _say)
    worth, before = metrics["validation"], metrics["standards"]["untrained"]
    return metrics, (
        f"epoch {metrics['best_epoch']} is in {output}: loss {worth['loss']:.4f} on validation "
        f"pairs (before {before:.4f}), {worth['right']:.0%} of them the right way round"
    )
