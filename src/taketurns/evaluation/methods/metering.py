"""What an answer costs: tokens and forward passes, counted at the engine's door.

A metered engine is the engine itself with a counter in each of its calls. They count for the answer
in whose task they are made (`counting`), also across tasks that it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from taketurns.engines.base import (
    Combine,
    DeepSession,
    Engine,
    ModelInfo,
    Prompt,
    Session,
    SharingSession,
    TogetherSession,
)
from taketurns.types import Completion, Sampling, Token


@dataclass(slots=True)
class EngineUsage:
    """What was spent so far: tokens that a model had to read anew, tokens it wrote (its end among
    them), and forward passes: one for reading what is new, one for each further token. `by_model`
    has the tokens of each model."""

    read: int = 0
    written: int = 0
    passes: int = 0
    by_model: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens that went through a model: what equal compute means for models of one size."""
        return self.read + self.written

    def add(self, model: str, read: int, written: int, passes: int) -> None:
        self.read += read
        self.written += written
        self.passes += passes
        self.by_model[model] = self.by_model.get(model, 0) + read + written


_current: ContextVar[EngineUsage | None] = ContextVar("usage", default=None)


@contextmanager
def counting() -> Iterator[EngineUsage]:
    """Count what is asked of metered engines in this task and those it starts."""
    usage = EngineUsage()
    token = _current.set(usage)
    try:
        yield usage
    finally:
        _current.reset(token)


class MeteredEngine:
    """The engine `inner`, counted."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner

    async def info(self, model: str) -> ModelInfo:
        return await self._inner.info(model)

    async def load(self, model: str) -> None:
        await self._inner.load(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[MeteredSession]:
        async with self._inner.session(seed, tokens) as session:
            yield MeteredSession(session)

    async def close(self) -> None:
        await self._inner.close()


class MeteredSession:
    """One answer. `read` says how many tokens of a prompt are new to a model, as an engine that
    keeps what it has encoded would find."""

    def __init__(self, inner: Session, known: dict[str, list[int]] | None = None) -> None:
        self._inner = inner
        self._known = {} if known is None else known

    async def generate(
        self,
        model: str,
        prompt: Prompt,
        sampling: Sampling,
        on_token: Callable[[Token], None] | None = None,
    ) -> Completion:
        completion = await self._inner.generate(model, prompt, sampling, on_token)
        if isinstance(prompt, str):
            new = completion.prompt_tokens - completion.cached_tokens
        else:
            new = self._new(model, [*prompt, *completion.token_ids], len(prompt))
        self._count(model, completion, new)
        return completion

    async def generate_together(
        self,
        models: Sequence[str],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        combine: Combine,
    ) -> Completion:
        inner = cast(TogetherSession, self._inner)
        completion = await inner.generate_together(models, prompts, sampling, combine)
        for model, prompt in zip(models, prompts, strict=True):
            new = self._new(model, [*prompt, *completion.token_ids], len(prompt))
            self._count(model, completion, new)
        return completion

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        self._peek(model, prompt)
        return await self._inner.score(model, prompt, choices)

    async def read(self, model: str, prompt: Prompt) -> None:
        self._peek(model, prompt)
        await cast(SharingSession, self._inner).read(model, prompt)

    async def hidden(self, model: str, prompt: Prompt, layers: Sequence[int]) -> Any:
        self._peek(model, prompt)
        return await cast(DeepSession, self._inner).hidden(model, prompt, layers)

    async def next_logprobs(self, model: str, prompt: Prompt) -> Any:
        self._peek(model, prompt)
        return await cast(DeepSession, self._inner).next_logprobs(model, prompt)

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[MeteredSession]:
        async with self._inner.fork(seed) as child:
            yield MeteredSession(child, dict(self._known))

    def _count(self, model: str, completion: Completion, new: int) -> None:
        drawn = len(completion.token_ids) + (completion.finish == "stop")
        if (usage := _current.get()) is not None:
            usage.add(model, new, drawn, max(1, drawn))

    def _peek(self, model: str, prompt: Prompt) -> None:
        new = len(prompt) if isinstance(prompt, str) else self._new(model, [*prompt], len(prompt))
        if (usage := _current.get()) is not None:
            usage.add(model, new, 0, 1)

    def _new(self, model: str, ids: list[int], prompt: int) -> int:
        """How many of the first `prompt` ids the model has not read, at least the last one."""
        known = self._known.get(model, [])
        limit = min(len(known), prompt - 1)
        if known[:limit] != ids[:limit]:
            limit = next(i for i in range(limit) if known[i] != ids[i])
        self._known[model] = ids
        return prompt - limit
