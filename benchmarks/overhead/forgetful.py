"""An engine that encodes every prompt anew: what a team costs without kept caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from taketurns.engines.base import Engine, ModelInfo, Prompt, Session
from taketurns.types import Completion, Sampling, Token
from taketurns.utils.seeds import derive


class ForgetfulEngine:
    """Wraps an engine whose sessions fork. Every call runs in a fork of a session that has encoded
    nothing, so greedy answers are those of the engine itself and sampled ones have other draws."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def info(self, model: str) -> ModelInfo:
        return await self._engine.info(model)

    async def load(self, model: str) -> None:
        await self._engine.load(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[Session]:
        async with self._engine.session(seed, tokens) as blank:
            yield _ForgetfulSession(blank, seed)

    async def close(self) -> None:
        await self._engine.close()


class _ForgetfulSession:
    def __init__(self, blank: Session, seed: int) -> None:
        self._blank = blank
        self._seed = seed
        self._calls = 0

    async def generate(
        self,
        model: str,
        prompt: Prompt,
        sampling: Sampling,
        on_token: Callable[[Token], None] | None = None,
    ) -> Completion:
        async with self._blank.fork(self._next()) as fresh:
            return await fresh.generate(model, prompt, sampling, on_token)

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        async with self._blank.fork(self._next()) as fresh:
            return await fresh.score(model, prompt, choices)

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[Session]:
        yield _ForgetfulSession(self._blank, seed)

    def _next(self) -> int:
        self._calls += 1
        return derive(self._seed, "call", self._calls)
