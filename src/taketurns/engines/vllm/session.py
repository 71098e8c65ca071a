"""One answer in vLLM. A patch is a request with the whole prompt, of which vLLM's prefix cache has
what was computed before, or a turn of a request that stays open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from taketurns.engines.base import ModelInfo, OnToken, Prompt
from taketurns.engines.patch_tokens import scores_fit
from taketurns.engines.vllm.engine_thread import EngineThread
from taketurns.engines.vllm.open_requests import OpenRequests
from taketurns.engines.vllm.patch import score_next, score_prompt, write_patch
from taketurns.engines.vllm.running import RunningModel
from taketurns.types import Completion, Sampling, Token
from taketurns.utils.seeds import derive


class Models(Protocol):
    """What a session needs of its engine."""

    thread: EngineThread

    async def info(self, model: str) -> ModelInfo:
        """Facts about a model. Raises ConfigError."""
        ...

    async def running(self, model: str) -> RunningModel:
        """The model, started if it is not. Raises ConfigError and EngineError."""
        ...


class VllmSession:
    """One answer: its seed, and its open requests if it keeps any."""

    def __init__(self, models: Models, seed: int, kept: OpenRequests | None = None) -> None:
        self._models = models
        self._seed = seed
        self._kept = kept

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        """Continue `prompt`. Draws depend on the session's seed and the position. Raises
        PromptError for a prompt that is too long, UnavailableError if the model's engine has
        ended."""
        info = await self._models.info(model)
        ids = info.prompt_ids(prompt, sampling.max_tokens)
        if sampling.constraint is not None and sampling.constraint.allowed() is None:
            return Completion((), "stop", prompt_tokens=len(ids))  # all is written
        if sampling.choices and not scores_fit(info, len(ids), sampling):
            sampling = replace(sampling, choices=())
        running = await self._models.running(model)
        seed = derive(derive(self._seed, model), len(ids))
        write = write_patch if self._kept is None else self._kept.write_patch
        return await self._models.thread.run(
            lambda emit: write(running, ids, sampling, seed, emit), on_token
        )

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        """Natural-log probabilities of `choices` as the next token, under the full softmax."""
        info = await self._models.info(model)
        ids = info.prompt_ids(prompt, 1)
        info.check_ids(choices)
        running = await self._models.running(model)
        return await self._models.thread.run(lambda _: score_next(running, ids, choices))

    async def read(self, model: str, prompt: Prompt) -> None:
        """Compute the prompt now, so that every later fork finds it in the prefix cache."""
        ids = (await self._models.info(model)).prompt_ids(prompt, 1)
        running = await self._models.running(model)
        await self._models.thread.run(lambda _: score_next(running, ids, ids[:1]))

    async def prompt_logprobs(self, model: str, prompt: Prompt, top: int) -> tuple[Token, ...]:
        """The prompt's tokens with their log-probabilities and the `top` most probable ones in
        their places; the first has none. The whole prompt is computed for it."""
        ids = (await self._models.info(model)).prompt_ids(prompt, 1)
        running = await self._models.running(model)
        return await self._models.thread.run(lambda _: score_prompt(running, ids, top))

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[VllmSession]:
        """A session with its own draws and no open request; the prefix cache has the answer so
        far."""
        yield VllmSession(self._models, seed)
