"""A switcher with the cost of another one whose decision is ignored."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.switchers.base import Decide, GenerationView, Switcher
from taketurns.types import Query


class ImpartialSwitcher:
    """Asks another switcher, then returns equal probabilities. The speakers drawn are those of
    RandomSwitcher, so that times differ only by the cost of asking."""

    def __init__(self, asked: Switcher) -> None:
        self._asked = asked

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        await self._asked.prepare(engine, candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        ask = self._asked.begin(query, policy)

        async def decide(session: Session, draft: GenerationView) -> tuple[float, ...]:
            answer = await ask(session, draft)
            return (1 / len(answer),) * len(answer)

        return decide
