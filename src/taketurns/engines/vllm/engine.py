"""The vLLM engine: an engine process per model, which this process starts, drives and ends.

What a model knows of an answer is in its own engine's prefix cache: a returning speaker computes
what the others wrote since its last turn. All engines start with the first call that needs one,
because the memory is divided among all of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from taketurns.checkpoints.model_config import (
    end_token_ids,
    suppressed_token_ids,
    vocabulary_size,
)
from taketurns.checkpoints.text import TextCodec
from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import ALL_OPTIONS, Capability, ModelInfo
from taketurns.engines.logprobs_gate import LogprobsGate
from taketurns.engines.vllm.arguments import context_of
from taketurns.engines.vllm.engine_thread import EngineThread
from taketurns.engines.vllm.library import Library, import_vllm, require_vllm
from taketurns.engines.vllm.open_requests import OpenRequests
from taketurns.engines.vllm.running import ModelCounters, Reservations, RunningModel
from taketurns.engines.vllm.session import VllmSession
from taketurns.engines.vllm.starting import StartedEngine, start_engines, stop_engines
from taketurns.errors import ConfigError, concerning
from taketurns.types import Candidate

_CAPABILITIES: frozenset[Capability] = frozenset(
    (
        "token_ids",
        "score",
        "exact_score",
        "fork",
        "entropy",
        "next_token",
        "format_start",
        "prompt_logprobs",
    )
)


class VllmEngine:
    """Runs `models` in vLLM. Raises ConfigError if vLLM is missing or too old."""

    def __init__(
        self,
        models: Sequence[Candidate],
        settings: EngineConfig | None = None,
        *,
        library: Library | None = None,
    ) -> None:
        if library is None:
            require_vllm()
        self._models = {model.name: model for model in models}
        self._settings = settings or EngineConfig(kind="vllm")
        self._library = library
        self._open_requests = self._settings.open_requests
        self._info: dict[str, ModelInfo] = {}
        self._reading = threading.Lock()
        self._starting = threading.Lock()
        self._start: asyncio.Task[None] | None = None
        self._engines: list[StartedEngine] = []
        self._running: dict[str, RunningModel] = {}
        self.thread = EngineThread()

    async def info(self, model: str) -> ModelInfo:
        """Facts from the model's files; nothing is started."""
        if model not in self._models:
            raise ConfigError(
                f"there is no model {model!r}; the models are {', '.join(self._models)}"
            )
        if model not in self._info:
            return await asyncio.to_thread(self._read, model)
        return self._info[model]

    async def load(self, model: str) -> None:
        """Start the engines of all models, if they do not run. Raises ConfigError and CapacityError
        before anything is loaded, EngineError if one does not start."""
        await self.running(model)

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[VllmSession]:
        """Open an answer. This never waits, because vLLM queues requests itself."""
        kept = None if self._open_requests is False else OpenRequests(tokens)
        try:
            yield VllmSession(self, seed, kept)
        finally:
            if kept is not None:
                self.thread.start(kept.close())

    async def close(self) -> None:
        """End all engines and their processes; running answers fail."""
        if self._engines:
            engines, self._engines = self._engines, []
            await self.thread.run(lambda _: stop_engines(engines))
        await asyncio.to_thread(self.thread.close)

    async def running(self, model: str) -> RunningModel:
        """The model, started if it is not. Raises as `load` does."""
        await self.info(model)
        if model not in self._running:
            infos = [await self.info(name) for name in self._models]
            await self.thread.run(lambda _: self._started(infos))
        return self._running[model]

    def keep_requests(self, kept: bool) -> None:
        """Whether sessions that are opened from now on keep open requests."""
        self._open_requests = kept

    def counters(self, model: str) -> ModelCounters:
        """The counters of a model's requests."""
        running = self._running.get(model)
        return running.counters if running is not None else ModelCounters()

    @property
    def failure(self) -> str | None:
        """Why no model can run any more; None while one can."""
        engines = self._engines
        if engines and all(engine.llm.errored for engine in engines):
            return "all vLLM engines of the team have ended; their logs say why: start again"
        return None

    async def _started(self, infos: Sequence[ModelInfo]) -> None:
        """Start all engines, once for all that wait; after a failure the next call tries again."""
        if self._start is None or self._start.done():
            if self._running:
                return
            self._start = asyncio.create_task(self._start_all(infos))
        await asyncio.shield(self._start)

    async def _start_all(self, infos: Sequence[ModelInfo]) -> None:
        library = self._library
        if library is None:
            library = self._library = await asyncio.to_thread(import_vllm)
        self._engines = await start_engines(library, tuple(self._models.values()), self._settings)
        by_name = {info.name: info for info in infos}
        running = {}
        for engine in self._engines:
            config = engine.llm.vllm_config
            gate = None if config.use_v2_model_runner else LogprobsGate()
            reservations = self._reservations(config)
            for model in engine.plan.models:
                running[model.name] = RunningModel(
                    by_name[model.name],
                    library,
                    engine.llm,
                    engine.adapters.get(model.name),
                    gate,
                    reservations,
                )
        self._running = running

    def _reservations(self, config: Any) -> Reservations:
        """Half of an engine's places and memory, for requests that stay open; nothing where vLLM
        schedules ahead, unless the team file says so."""
        if self._open_requests is None and config.scheduler_config.async_scheduling:
            return Reservations(0, 0)
        cache = config.cache_config
        tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        return Reservations(config.scheduler_config.max_num_seqs // 2, tokens // 2)

    def _read(self, model: str) -> ModelInfo:
        """Read each model's files once, for concurrent answers and from any event loop."""
        with self._reading:
            if model not in self._info:
                with concerning(model):
                    self._info[model] = _read_info(self._models[model], self._settings)
        return self._info[model]


def _read_info(model: Candidate, settings: EngineConfig) -> ModelInfo:
    spec = model.spec
    codec = TextCodec.load(spec)
    return ModelInfo(
        name=model.name,
        context=context_of(model, settings),
        codec=codec,
        end_token_ids=end_token_ids(spec, codec.tokenizer),
        capabilities=_CAPABILITIES,
        suppressed_token_ids=suppressed_token_ids(spec),
        vocabulary=vocabulary_size(spec),
        options=ALL_OPTIONS,
    )
