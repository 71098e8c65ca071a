"""Fitting a judge of MentorCollab: which of two patches leads to the better answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taketurns.config.pair_rules import MentorRule
from taketurns.config.team_config import TeamConfig
from taketurns.errors import UsageError
from taketurns.switchers.head import HeadConfig, View
from taketurns.switchers.judge import Judge, PatchValue
from taketurns.training.labels.labels import Label
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.head import (
    LEAST_DEVIATION,
    descend,
    head_config,
    loss_on,
    measure_on,
)
from taketurns.training.supervised.settings import HeadSettings, JudgeSettings, TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pair:
    """An example, and the writer's `states` `[2, layers * d]` after each candidate's patch."""

    example: Example
    states: Tensor


@dataclass(frozen=True, slots=True)
class FittedJudge:
    """The judge of the best epoch, the metrics of every epoch on validation, and the best epoch,
    from 1."""

    judge: Judge
    history: Sequence[Mapping[str, float]]
    best_epoch: int


def rule_of(team: TeamConfig) -> MentorRule:
    """The rule by which the team compares patches. Raises UsageError for another switcher."""
    if not isinstance(team.switcher.pair, MentorRule):
        raise UsageError(
            f"a judge is for a switcher of kind mentorcollab, and this team's is "
            f"{team.switcher.kind}: set switcher.kind to mentorcollab"
        )
    return team.switcher.pair


def judge_config(team: TeamConfig, settings: JudgeSettings) -> HeadConfig:
    """What a judge of this team reads: states of the writer. Raises UsageError for a team without
    comparisons, ConfigError for an unknown layer."""
    writer = team.candidates[rule_of(team).base].name
    return head_config(team, HeadSettings("candidate", writer, settings.layers))


def after_patches(examples: Sequence[Example]) -> list[Label]:
    """Two labels per example, a candidate each: the prefix ends after that one's patch."""
    return [
        replace(example.label, prefix=(*example.label.prefix, patch))
        for example in examples
        for patch in example.label.patches
    ]


def pairs(examples: Sequence[Example], views: Sequence[View]) -> list[Pair]:
    """The examples with the states of their `after_patches`, without those whose patch fills the
    writer's context."""
    import torch

    both = zip(examples, views[::2], views[1::2], strict=True)
    return [
        Pair(example, torch.stack((first.states, second.states)))
        for example, first, second in both
        if first.states is not None and second.states is not None
    ]


def fit(
    config: HeadConfig,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    settings: JudgeSettings,
    training: TrainingConfig,
) -> FittedJudge:
    """Fit a judge, from one that gives all patches the same value. Raises NotANumberError if
    training diverges."""
    import torch

    learned = torch.cat([pair.states for pair in train])
    mean, deviation = learned.mean(0), learned.std(0, correction=0) + LEAST_DEVIATION

    def rows(pairs: Sequence[Pair]) -> Tensor:
        return (torch.stack([pair.states for pair in pairs]) - mean) / deviation

    size, width = learned.shape[1], settings.width
    draw = torch.Generator().manual_seed(training.seed)
    start = PatchValue(
        weight=torch.randn(width, size, generator=draw) * (2 / size) ** 0.5,
        bias=torch.zeros(width),
        output=torch.zeros(width),
        lean=torch.zeros(2),
    )
    weights, history, best = descend(
        list(start.tensors.values()),
        lambda states, weights: PatchValue(*weights)(states),
        rows(train),
        loss_on([pair.example for pair in train]),
        training,
        rows(validation),
        measure_on([pair.example for pair in validation]),
    )
    return FittedJudge(Judge(config, mean, deviation, PatchValue(*weights)), history, best)
