"""Stages 4 and 5: labels (the utility of each checkpoint's next patch), and switchers from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recipes.pocket.recipe import Recipe
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError, EngineError
from taketurns.pocket.tasks import tasks
from taketurns.pocket.world import World
from taketurns.training.labels.allocation import Uniform
from taketurns.training.labels.job import RolloutJob, make_rollouts
from taketurns.training.labels.labels import read_labels
from taketurns.training.policy_gradient.run import train_on_reward
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import (
    HeadSettings,
    LMSettings,
    Selection,
    TrainingConfig,
)

LABELS = "rollouts.jsonl"
GLOBAL, LM, ON_REWARD = "global", "lm", "practised"
TEAM = """\
# Three stages of one miniature training pipeline, and a switcher that learned from them.
candidates:
  - name: pretrained
    model: ./pretrained
    prompt: "question: {text} answer:"
  - name: sft
    model: ./sft
  - name: aligned
    model: ./aligned
"""
SWITCHER = """
switcher:
  kind: head
  path: ./switchers/practised
"""
POLICY = """
policy:
  patch_size: 16
  max_tokens: 200
  temperature: 0.7
"""


def write_team(out: Path) -> None:
    """The team file of a finished build."""
    (out / "team.yaml").write_text(TEAM + SWITCHER + POLICY, encoding="utf-8")


def label(recipe: Recipe, out: Path, partial: Path) -> None:
    """Roll out the train questions. Raises EngineError if a prefix or rollout fails."""
    plan = RolloutJob.of(
        _untrained(out),
        list(tasks(World(recipe.seed)).values()),
        prefixes=recipe.labelling.prefixes,
        allocation=Uniform(recipe.labelling.k),
    )
    summary = make_rollouts(plan, partial / LABELS)
    if summary.failures or summary.lost:
        failed = summary.failures.count
        raise EngineError(
            f"{failed} prefixes and {summary.lost} rollouts of the labels failed: the same command "
            "makes them again"
        )


def train_switchers(
    recipe: Recipe, out: Path, partial: Path, say: Callable[[str], None] = lambda sentence: None
) -> None:
    """One folder per switcher: `global` and `lm` for all tasks, a head for each task under its name
    if its labels have a signal, and `practised`, the global one trained on reward."""
    team, labels = _untrained(out), out / "labels" / LABELS
    training = TrainingConfig(seed=recipe.seed)
    train(team, labels, partial / GLOBAL, HeadSettings(), training=training, say=say)
    train(team, labels, partial / LM, LMSettings(), training=training, say=say)
    names = [candidate.name for candidate in team.candidates]
    asked = {row.task for row in read_labels(labels, names)} if recipe.switching.by_task else set()
    for task in sorted(asked):
        selection = Selection(tasks=(task,))
        try:
            train(team, labels, partial / task, HeadSettings(), selection, training, say)
        except DataError as error:  # all candidates have equal utilities: nothing to learn
            say(str(error))
    config = PolicyGradientConfig(
        steps=recipe.switching.steps, checked=recipe.switching.checked, seed=recipe.seed
    )
    every = list(tasks(World(recipe.seed)).values())
    train_on_reward(load_team_config(partial / GLOBAL), every, partial / ON_REWARD, config, say)


def _untrained(out: Path) -> TeamConfig:
    """The three checkpoints, without a trained switcher."""
    path = out / "team.yaml"
    path.write_text(TEAM + POLICY, encoding="utf-8")
    return load_team_config(path)
