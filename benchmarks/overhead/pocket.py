"""The bundled team as a subject: with tiny models the cost around them matters most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.overhead.questions import Race
from benchmarks.overhead.weights import GivenWeights
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.loading import Weights
from taketurns.generation.team import SWITCHER
from taketurns.pocket import TASKS
from taketurns.types import Query

BUDGET = 512


class PocketModels:
    """The bundled checkpoints in memory, the last one (aligned) a second time as an untuned
    switcher."""

    def __init__(self, config: TeamConfig) -> None:
        self._config = config
        specs = {candidate.name: candidate.spec for candidate in config.candidates}
        weights = Weights(specs)
        self.models: dict[str, Any] = {name: weights.load(name).model for name in specs}
        last = config.candidates[-1]
        self.models[SWITCHER] = Weights({last.name: last.spec}).load(last.name).model

    def race(self) -> Race:
        """The team of the package against the public loop, with the paper's budget for both."""
        return Race(
            name="pocket",
            candidates=self._config.candidates,
            switcher=self._config.candidates[-1].spec,
            weights=GivenWeights(self.models),
            policy=replace(self._config.policy, max_tokens=BUDGET),
        )


def pocket_config() -> TeamConfig | None:
    """The bundled team, or None if this copy of the package has no weights for it."""
    config = load_team_config("pocket")
    there = all(
        any(Path(candidate.spec.model).glob("*.safetensors")) for candidate in config.candidates
    )
    return config if there else None


def dev_questions(count: int) -> tuple[Query, ...]:
    """The first dev questions of every task in turn."""
    tasks = tuple(TASKS.values())
    return tuple(
        tasks[index % len(tasks)].queries("dev")[index // len(tasks)] for index in range(count)
    )
