"""The cost of an answer: tokens and forward passes, counted at each call of the engine.

A metered engine wraps an engine and counts each of its calls, for the answer whose task makes the
call (`counting`) or has started the task that makes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from taketurns.engines.base import Prompt, Session
from taketurns.engines.wrapper import EngineWrapper, SessionWrapper
from taketurns.types import Completion


@dataclass(slots=True)
class EngineUsage:
    """The cost so far: tokens that a model read for the first time, tokens that it wrote (including
    end tokens), and forward passes: one to read new tokens, one for each further token. `by_model`
    has the tokens of each model."""

    read: int = 0
    written: int = 0
    passes: int = 0
    by_model: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens that went through a model: a measure of compute for models of equal size."""
        return self.read + self.written

    def add(self, model: str, read: int, written: int, passes: int) -> None:
        self.read += read
        self.written += written
        self.passes += passes
        self.by_model[model] = self.by_model.get(model, 0) + read + written


_current: ContextVar[EngineUsage | None] = ContextVar("usage", default=None)


@contextmanager
def counting() -> Iterator[EngineUsage]:
    """Count the calls of metered engines in this task and the tasks that it starts."""
    usage = EngineUsage()
    token = _current.set(usage)
    try:
        yield usage
    finally:
        _current.reset(token)


class MeteredEngine(EngineWrapper):
    """The engine `inner` with counted calls."""

    def wrap(self, session: Session, seed: int) -> MeteredSession:
        return MeteredSession(session)


class MeteredSession(SessionWrapper):
    """One answer. `known` has the tokens that each model has read, so that only new tokens count,
    as in an engine with a KV cache."""

    def __init__(self, inner: Session, known: dict[str, list[int]] | None = None) -> None:
        super().__init__(inner)
        self._known = {} if known is None else known

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[MeteredSession]:
        async with self._inner.fork(seed) as child:
            yield MeteredSession(child, dict(self._known))

    def after_write(self, model: str, prompt: Prompt, completion: Completion) -> None:
        if isinstance(prompt, str):
            new = completion.prompt_tokens - completion.cached_tokens
        else:
            new = self._new(model, [*prompt, *completion.token_ids], len(prompt))
        drawn = len(completion.token_ids) + (completion.finish == "stop")
        if (usage := _current.get()) is not None:
            usage.add(model, new, drawn, max(1, drawn))

    def before_look(self, model: str, prompt: Prompt) -> None:
        new = len(prompt) if isinstance(prompt, str) else self._new(model, [*prompt], len(prompt))
        if (usage := _current.get()) is not None:
            usage.add(model, new, 0, 1)

    def _new(self, model: str, ids: list[int], prompt: int) -> int:
        """The number of the first `prompt` ids that the model has not read, at least 1."""
        known = self._known.get(model, [])
        limit = min(len(known), prompt - 1)
        if known[:limit] != ids[:limit]:
            limit = next(i for i in range(limit) if known[i] != ids[i])
        self._known[model] = ids
        return prompt - limit
