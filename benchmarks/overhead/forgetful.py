"""An engine that encodes every prompt anew: the cost of a team without kept caches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taketurns.engines.base import Prompt, Session
from taketurns.engines.wrapper import EngineWrapper, SessionWrapper
from taketurns.utils.seeds import derive


class ForgetfulEngine(EngineWrapper):
    """Wraps an engine whose sessions fork. Every call runs in a fork of an empty session, so greedy
    answers equal those of the engine and sampled ones have other random draws."""

    def wrap(self, session: Session, seed: int) -> Session:
        return _ForgetfulSession(session, seed)


class _ForgetfulSession(SessionWrapper):
    def __init__(self, blank: Session, seed: int) -> None:
        super().__init__(blank)
        self._seed = seed
        self._calls = 0

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Session]:
        self._calls += 1
        async with self._inner.fork(derive(self._seed, "call", self._calls)) as fresh:
            yield fresh

    async def read(self, model: str, prompt: Prompt) -> None:
        """Nothing is cached, so nothing is read ahead."""

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[Session]:
        yield _ForgetfulSession(self._inner, seed)
