"""Engines that wrap another engine: they observe its calls, or open a new session for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from taketurns.engines.base import (
    Combine,
    Engine,
    ModelInfo,
    OnToken,
    Prompt,
    Session,
    SharingSession,
)
from taketurns.types import Completion, Sampling


class EngineWrapper(ABC):
    """The engine `inner`, with `wrap` around its sessions."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner

    @abstractmethod
    def wrap(self, session: Session, seed: int) -> Session:
        """The session to give out for `session`, which was opened with `seed`."""

    async def info(self, model: str) -> ModelInfo:
        return await self._inner.info(model)

    async def load(self, model: str) -> None:
        await self._inner.load(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[Session]:
        async with self._inner.session(seed, tokens) as session:
            yield self.wrap(session, seed)

    async def close(self) -> None:
        await self._inner.close()


class SessionWrapper(ABC):
    """The session `inner` with every call of any engine; a model's capabilities say which of them
    work. A subclass changes the session that a call goes to (`calling`) or observes the calls
    (`before_look`, `after_write`)."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Any]:
        """Yields the session that one call goes to."""
        yield self._inner

    def before_look(self, model: str, prompt: Prompt) -> None:
        """Called before a model reads a prompt without writing."""
        return

    def after_write(self, model: str, prompt: Prompt, completion: Completion) -> None:
        """Called after a model has continued a prompt, alone or together with others."""
        return

    @abstractmethod
    def fork(self, seed: int) -> Any:
        """As `Session.fork`."""

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        async with self.calling() as session:
            completion: Completion = await session.generate(model, prompt, sampling, on_token)
        self.after_write(model, prompt, completion)
        return completion

    async def generate_together(
        self,
        models: Sequence[str],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        combine: Combine,
    ) -> Completion:
        async with self.calling() as session:
            completion: Completion = await session.generate_together(
                models, prompts, sampling, combine
            )
        for model, prompt in zip(models, prompts, strict=True):
            self.after_write(model, prompt, completion)
        return completion

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        scores: list[float] = await self._look("score", model, prompt, choices)
        return scores

    async def read(self, model: str, prompt: Prompt) -> None:
        if isinstance(self._inner, SharingSession):
            await self._look("read", model, prompt)

    async def hidden(self, model: str, prompt: Prompt, layers: Sequence[int]) -> Any:
        return await self._look("hidden", model, prompt, layers)

    async def prompt_logprobs(self, model: str, prompt: Prompt, top: int) -> Any:
        return await self._look("prompt_logprobs", model, prompt, top)

    async def next_logprobs(self, model: str, prompt: Prompt) -> Any:
        return await self._look("next_logprobs", model, prompt)

    async def _look(self, call: str, model: str, prompt: Prompt, *arguments: Any) -> Any:
        self.before_look(model, prompt)
        async with self.calling() as session:
            return await getattr(session, call)(model, prompt, *arguments)
