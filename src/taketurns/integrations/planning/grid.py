"""Simulates all combinations of deployments and loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, product
from typing import Any

from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.result import SimulationResult
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import AnswerMix, SimulatedAnswer, arrival_times

GridRow = dict[str, Any]

_FEWEST, _ROUNDS, _SECONDS = 200, 6, 60

VARIED = ("replicas", "rate", "at_a_time", "patch", "sticky")


@dataclass(frozen=True, slots=True)
class Grid:
    """The combinations to simulate. `rates` are answers per second, `at_a_time` concurrent answers;
    one of the two is empty. Each combination has `count` answers (None: those of a minute, or six
    per concurrent answer, but at least 200). `recorded` answers replace those drawn from `mix`."""

    deployment: Deployment
    mix: AnswerMix
    replicas: Sequence[int]
    patches: Sequence[int]
    sticky: Sequence[float]
    rates: Sequence[float] = ()
    at_a_time: Sequence[int] = ()
    recorded: Sequence[SimulatedAnswer] = ()
    count: int | None = None
    seed: int = 0

    @property
    def answers(self) -> int:
        """The number of answers of all combinations."""
        deployments = len(self.replicas) * len(self.patches) * len(self.sticky)
        return deployments * sum(self._count(name, load) for name, load in self._loads)

    @property
    def _loads(self) -> list[tuple[str, float]]:
        return [*(("rate", x) for x in self.rates), *(("at_a_time", x) for x in self.at_a_time)]

    def _count(self, name: str, load: float) -> int:
        """Enough answers to reach a steady state."""
        if self.count is not None:
            return self.count
        return max(_FEWEST, round(_SECONDS * load) if name == "rate" else _ROUNDS * int(load))

    def run(self, on_done: Callable[[], None] | None = None) -> Iterator[GridRow]:
        """Yield a row for each combination: its settings, and the summary of its result. Equal
        combinations draw equal answers and arrivals. Raises UsageError."""
        for (name, load), replicas, patch, sticky in product(
            self._loads, self.replicas, self.patches, self.sticky
        ):
            result = self._simulate(name, load, replicas, patch, sticky, on_done)
            settings = {"replicas": replicas, name: load, "patch": patch, "sticky": sticky}
            if self.recorded:
                del settings["patch"]
            summary = result.summary()
            summary["grows"] &= name == "rate"
            yield settings | summary

    def _simulate(
        self,
        name: str,
        load: float,
        replicas: int,
        patch: int,
        sticky: float,
        on_done: Callable[[], None] | None,
    ) -> SimulationResult:
        count = self._count(name, load)
        deployment = replace(self.deployment, replicas=replicas, sticky=sticky)
        if self.recorded:
            answers = list(islice(cycle(self.recorded), count))
        else:
            answers = replace(self.mix, patch=patch).draw(count, self.seed)
        if name == "rate":
            times = arrival_times(load, count, self.seed)
            return simulate(deployment, answers, arrivals=times, seed=self.seed, on_done=on_done)
        return simulate(deployment, answers, at_a_time=int(load), seed=self.seed, on_done=on_done)


def varied_settings(rows: Sequence[GridRow]) -> list[str]:
    """The settings that differ between rows, that with the most values first."""
    values = {name: {row[name] for row in rows if name in row} for name in VARIED}
    return sorted((n for n in VARIED if len(values[n]) > 1), key=lambda n: -len(values[n]))
