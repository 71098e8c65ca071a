"""A team's models and its switcher, for the report; the same for models here and on servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from taketurns.config.pair_rules import DeferralRule, MentorRule
from taketurns.config.team_config import SwitcherKind, TeamConfig
from taketurns.generation.team import SWITCHER
from taketurns.switchers import candidate_order
from taketurns.switchers.head import Head, describe_blind, describe_labels, load_config
from taketurns.switchers.judge import Judge
from taketurns.types import ModelSpec


def models_of(config: TeamConfig) -> list[tuple[str, ModelSpec]]:
    """Each model with its name in the engine: the candidates, then the switcher's and the judge's
    models, if these are not candidates."""
    models = [(candidate.name, candidate.spec) for candidate in config.candidates]
    if config.switcher.spec is not None:
        models.append((SWITCHER, config.switcher.spec))
    if config.judge is not None and config.judge not in config.candidates:
        models.append((config.judge.name, config.judge.spec))
    return models


def describe_switcher(config: TeamConfig) -> str:
    """The switcher, in a few words."""
    switcher, names = config.switcher, [candidate.name for candidate in config.candidates]
    if switcher.kind == "fixed":
        return f"fixed: {', '.join(names[index] for index in switcher.sequence)}, repeated"
    if switcher.kind == "lm":
        order = candidate_order.resolve(switcher)
        numbered = ", ".join(f"{number} is {name}" for number, name in enumerate(order or names))
        whose = "" if order else ": the team's order, because no other is recorded"
        return f"a language model that reads the tagged trace, where {numbered}{whose}"
    if switcher.kind not in get_args(SwitcherKind):
        return f"{switcher.kind}, your own"
    if switcher.kind == "folded":
        return "a head in the candidates' output matrices, read with each patch"
    if switcher.kind == "fusionroute":
        return "a router that picks who writes each token, and adds its logits to that one's"
    rule = switcher.pair
    if isinstance(rule, DeferralRule) and switcher.path is not None:
        reader = load_config(switcher.path).reader
        return f"{reader} defers where a head on its states says more than {rule.threshold:g}"
    if rule is not None and not isinstance(rule, DeferralRule):
        base = names[rule.base]
        if isinstance(rule, MentorRule):
            judge = "itself"
            if switcher.path is not None:
                judge = f"a network of {Judge.load(switcher.path).numbers:,} numbers on its states"
            return (
                f"{switcher.kind}, at {rule.rate:.0%} of the places, with {base} as the writer and "
                f"{judge} as the judge"
            )
        return f"{switcher.kind}, at every token, with {base} as the base and gamma {rule.gamma:g}"
    if switcher.path is not None:
        head = Head.load(switcher.path)
        whose = "the last speaker" if head.config.mode == "speaker" else head.config.reader
        learned = describe_labels(head.config)
        more = f"; {learned}" if learned else ""
        return f"a linear head of {head.numbers:,} numbers on hidden states of {whose}{more}"
    return "random: all candidates are equally probable"


def switcher_notes(config: TeamConfig) -> Iterator[str]:
    """Notes on the places where a head reads no states or had too few labels."""
    if config.switcher.kind != "head" or config.switcher.path is None:
        return
    if (blind := describe_blind(Head.load(config.switcher.path))) is not None:
        yield f"switcher: {blind}"
