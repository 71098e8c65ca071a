"""Switchers that read no model: at random, in a fixed order, or another switcher restricted to some
candidates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.switchers.base import Decide, GenerationView, Switcher
from taketurns.switchers.sampling import normalise
from taketurns.types import Query


class RandomSwitcher:
    """All candidates are equally probable at every patch."""

    def __init__(self) -> None:
        self._candidates = 0

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        self._candidates = len(candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        uniform = (1 / self._candidates,) * self._candidates

        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            return uniform

        return decide


class FixedSwitcher:
    """Candidates speak in a given order of indices, which is repeated."""

    def __init__(self, sequence: Sequence[int]) -> None:
        self._sequence = tuple(sequence)
        self._candidates = 0

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        self._candidates = len(candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            turn = sum(patch.speaker is not None for patch in state.patches)
            chosen = self._sequence[turn % len(self._sequence)]
            return tuple(float(index == chosen) for index in range(self._candidates))

        return decide


class SubsetSwitcher:
    """Another switcher, restricted to the candidates with indices `allowed`: its probabilities are
    renormalised over them. If they all have probability 0, they are equally probable."""

    def __init__(self, switcher: Switcher, allowed: Collection[int]) -> None:
        self._switcher = switcher
        self._allowed = frozenset(allowed)

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        await self._switcher.prepare(engine, candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        whole = self._switcher.begin(query, policy)

        async def decide(session: Session, state: GenerationView) -> tuple[float, ...]:
            probabilities = await whole(session, state)
            left = [p if i in self._allowed else 0.0 for i, p in enumerate(probabilities)]
            if not any(left):
                left = [float(i in self._allowed) for i in range(len(probabilities))]
            return normalise(left)

        return decide
