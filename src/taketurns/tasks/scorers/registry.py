"""The scorers by name, each with the function that makes it from its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from taketurns.errors import UsageError
from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.calibration import Sampled, Stated
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.closed import Closed
from taketurns.tasks.scorers.compliance import Judged, Phrases
from taketurns.tasks.scorers.diversity import Diversity
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.own import own_scorer
from taketurns.tasks.scorers.reward import Reward
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.utils.parts import names_part


def calibration(of: str = "choice", sampled: bool = False) -> Scorer:
    """Brier score and calibration error of the stated or sampled confidence in answers that `of`
    scores."""
    return Sampled(make_scorer(of)) if sampled else Stated(make_scorer(of))


def noncompliance(judge: str | None = None) -> Scorer:
    """Is a request declined that should be? By a judge model, without one by phrases (a proxy)."""
    if judge is None:
        return Phrases()
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.types import ModelSpec

    spec = ModelSpec(judge)
    return Judged(LocalEngine({judge: spec}), judge, spec)


def reward(model: str, revision: str | None = None, batch: int = 8) -> Scorer:
    """The reward of the answer by a reward model."""
    return Reward(model, revision, batch)


def diversity(measure: str = "self-bleu", model: str | None = None) -> Scorer:
    """The diversity of several answers to one question."""
    return Diversity(measure, model)


SCORERS: Mapping[str, Callable[..., Scorer]] = MappingProxyType(
    {
        "mathematics": Mathematics,
        "choice": Choice,
        "closed": Closed,
        "exact": Exact,
        "alias": Alias,
        "f1": TokenF1,
        "noncompliance": noncompliance,
        "reward": reward,
        "diversity": diversity,
        "calibration": calibration,
    }
)


def make_scorer(name: str, settings: Mapping[str, Any] | None = None) -> Scorer:
    """A scorer by its name, or a user's scorer by "package.module:Name" or entry point. Raises
    UsageError for an unknown name or setting, with the known ones."""
    if name not in SCORERS and names_part("scorers", name):
        return own_scorer(name, dict(settings or {}))
    if name not in SCORERS:
        near = get_close_matches(name, SCORERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no scorer {name!r}; the scorers are {', '.join(SCORERS)}{hint}")
    known = settings_of(name)
    values = dict(settings or {})
    if unknown := [key for key in values if key not in known]:
        has = f"its settings are {', '.join(known)}" if known else "it takes none"
        raise UsageError(f"the scorer {name!r} has no setting {unknown[0]!r}; {has}")
    if missing := [key for key, needed in known.items() if needed and key not in values]:
        raise UsageError(
            f"the scorer {name!r} needs the setting {missing[0]!r}, as in --with {missing[0]}=…"
        )
    return SCORERS[name](**values)


def settings_of(name: str) -> dict[str, bool]:
    """A scorer's settings, each with whether it is required."""
    return {
        key: parameter.default is parameter.empty
        for key, parameter in inspect.signature(SCORERS[name]).parameters.items()
        if key != "name"
    }
