"""The local engine: transformers models in this process.

A thread runs models in rounds: in each round, every model with work encodes new tokens and writes
one token for each answer that it is writing. Models on one device share a thread; models in
different threads run at the same time. Any number of answers can run concurrently; each is a
coroutine that waits for its turn's result.

Keys and values are kept for each (model, answer) between turns, so a model encodes only new tokens.
Memory is bounded by admission: a session states the greatest length of its answer and waits until
that much memory is free, so no running answer is ever evicted. `engines/local/memory.py` divides
the memory."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from torch import Tensor

from taketurns.checkpoints.model_config import (
    context_length,
    end_token_ids,
    hidden_size,
    suppressed_token_ids,
    vocabulary_size,
)
from taketurns.checkpoints.text import SharedVocabulary, TextCodec
from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import ALL_OPTIONS, Combine, ModelInfo, OnToken, Prompt
from taketurns.engines.local.admission import Admission
from taketurns.engines.local.ensembles import Ensemble, Shared
from taketurns.engines.local.loading import Weights
from taketurns.engines.local.members import ModelCounters
from taketurns.engines.local.memory import answer_bytes, kv_budget
from taketurns.engines.local.model_threads import ModelThreads
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.requests import GenerateRequest, PromptScoreRequest, ScoreRequest
from taketurns.engines.local.worker import RunningModel
from taketurns.errors import ConfigError, concerning
from taketurns.types import Completion, ModelSpec, Sampling, Token
from taketurns.utils.seeds import generator


class LocalEngine:
    """Runs the models of `specs` by name.

    `deterministic`: an answer's tokens do not depend on the rest of the batch; this is possible for
    float32 on a CPU, and None means on there and off elsewhere. `max_batch` limits the rows of one
    forward, `memory_bytes` the memory of the answers' keys and values (None: a share of the free
    memory), `threads` the threads of one operation on a CPU. `parallel` is the greatest number of
    models that run on the CPU at the same time; each other device runs one model at a time.
    `weights` replaces the weights that `specs` name."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        *,
        deterministic: bool | None = None,
        max_batch: int = 64,
        memory_bytes: int | None = None,
        threads: int | None = None,
        parallel: int = 1,
        weights: Weights | None = None,
    ) -> None:
        self._specs = dict(specs)
        self._info: dict[str, ModelInfo] = {}
        self._reading = threading.Lock()
        self._loaded: set[str] = set()
        self._shared: dict[tuple[str, ...], Shared] = {}
        self._threads = ModelThreads(
            self._specs,
            deterministic=deterministic,
            max_batch=max_batch,
            threads=threads,
            parallel=parallel,
            weights=weights,
        )
        self._memory_bytes = memory_bytes
        self._admission = Admission(self._share_memory)

    @classmethod
    def configured(cls, specs: Mapping[str, ModelSpec], settings: EngineConfig) -> LocalEngine:
        """An engine with a team file's settings. Raises ConfigError if their kind is not local."""
        if settings.kind != "local":
            raise ConfigError(
                f"this needs the models in this process, but the team's engine has the kind "
                f"{settings.kind}: use a team file with engine.kind: local"
            )
        return cls(
            specs,
            deterministic=settings.deterministic,
            max_batch=settings.max_batch,
            memory_bytes=settings.memory_bytes,
            threads=settings.threads,
            parallel=settings.parallel,
        )

    async def info(self, model: str) -> ModelInfo:
        """Facts from the model's files; no weights are loaded."""
        if model not in self._info:
            if model not in self._specs:
                raise ConfigError(
                    f"there is no model {model!r}; the models are {', '.join(self._specs)}"
                )
            return await asyncio.to_thread(self._read, model)
        return self._info[model]

    def _read(self, model: str) -> ModelInfo:
        """Read each model's files once, for concurrent answers and from any event loop."""
        with self._reading:
            if model not in self._info:
                with concerning(model):
                    self._info[model] = _read_info(model, self._specs[model])
        return self._info[model]

    async def load(self, model: str) -> None:
        """Load a model's weights, if they are not loaded. Raises ConfigError or EngineError."""
        await self.info(model)
        if model not in self._loaded:
            suppressed = sorted(await self._suppressed(model))
            await self._threads.load(model, suppressed)
            self._loaded.add(model)

    async def _suppressed(self, model: str) -> frozenset[int]:
        """The ids that the model must not write: those that its files forbid, and ids beyond the
        embedding of another model that shares its vocabulary. Control tokens need no such limit,
        because they are not handed over."""
        this = await self.info(model)
        infos = [await self.info(name) for name in self._specs]
        if this.vocabulary is None:
            return this.suppressed_token_ids
        smallest = min(
            info.vocabulary
            for info in infos
            if info.vocabulary is not None and SharedVocabulary.of((this.codec, info.codec))
        )
        beyond = range(smallest, this.vocabulary)
        return this.suppressed_token_ids.union(i for i in beyond if not this.codec.is_control(i))

    async def shared(self, models: Sequence[str]) -> Shared:
        """The outcomes that these models share. Raises ConfigError for different vocabularies."""
        key = tuple(models)
        if key not in self._shared:
            self._shared[key] = Shared.of([await self.info(model) for model in models])
        return self._shared[key]

    def running(self, model: str) -> RunningModel:
        """Facts about a loaded model."""
        return self._threads.running(model)

    def counters(self, model: str) -> ModelCounters:
        """The counters of a model's work."""
        return self._threads.counters(model)

    @property
    def failure(self) -> str | None:
        """Why the engine can run no model any more; None while it can."""
        return self._threads.failure

    @property
    def reserved_bytes(self) -> int:
        """The memory reserved for running answers, in bytes."""
        return self._admission.used

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether sessions of `lengths` tokens would all open now. Raises CapacityError if one of
        them never can."""
        if len(self._loaded) < len(self._specs):
            return True  # the first session loads the other models; sizes are unknown before that
        return self._admission.fits([self._need(tokens) for tokens in lengths])

    @asynccontextmanager
    async def session(self, seed: int, tokens: int | None = None) -> AsyncIterator[LocalSession]:
        """Open an answer of at most `tokens` tokens, prompt included; None means the shortest
        context of the models. Raises CapacityError."""
        for model in self._specs:
            await self.load(model)
        if tokens is None:
            tokens = min(info.context for info in self._info.values())
        need = self._need(tokens)
        async with self._admission.admit(need):
            session = LocalSession(self, self._threads, self._admission, need, tokens, seed)
            try:
                yield session
            finally:
                session.close()

    def _need(self, tokens: int) -> int:
        """The bytes for an answer of `tokens` tokens."""
        caches = [self._threads.running(model).cache for model in self._specs]
        return answer_bytes(tokens, caches)

    def _share_memory(self) -> int:
        """The budget for the answers' keys and values in bytes. Called when all models are
        loaded."""
        devices = {self._threads.running(model).device for model in self._specs}
        total = self._memory_bytes or kv_budget(devices)
        self._threads.bound_lanes(total)
        return total

    async def close(self) -> None:
        """Stop the threads and release the weights; running answers fail."""
        await self._threads.close()


@dataclass(eq=False)
class LocalSession:
    """One answer: its part that each model has encoded (`parked`), and its random draws. Calls of
    `generate` to several models at a time share these draws in no fixed order; forks have draws of
    their own."""

    engine: LocalEngine
    threads: ModelThreads
    admission: Admission
    need: int
    tokens: int
    seed: int
    parked: dict[str, Parked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = generator(self.seed)
        # Concurrent calls to one model run one after the other, because each job continues from
        # the keys and values that the one before it has parked.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        """Continue the prompt. Raises PromptError if prompt and patch exceed the context."""
        info = await self.engine.info(model)
        ids = info.prompt_ids(prompt, sampling.max_tokens)
        async with self._turns[model]:
            completion: Completion = await self.threads.run(
                model,
                partial(GenerateRequest, ids, self._kept(model)),
                emit=on_token,
                sampling=sampling,
                codec=info.codec,
                end_token_ids=info.end_token_ids,
                random=self._random,
            )
        return completion

    async def generate_together(
        self,
        models: Sequence[str],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        combine: Combine,
    ) -> Completion:
        """Continue one text after each model's prompt; tokens are drawn from the result of
        `combine`. Counts of prompt tokens are the first model's."""
        if sampling.options.repetition_penalty != 1.0:
            raise ConfigError(
                "a repetition_penalty divides the logits of one model, and what several models "
                "give together has none: leave it out, or use a presence_penalty"
            )
        shared = await self.engine.shared(models)
        infos = [await self.engine.info(model) for model in models]
        ids = [
            info.prompt_ids(prompt, sampling.max_tokens)
            for info, prompt in zip(infos, prompts, strict=True)
        ]

        def make(resolve: Callable[[Any], None], reject: Callable[[Exception], None]) -> Ensemble:
            parked = [
                self._kept(model) if model not in models[:place] else self._kept(model).fork()
                for place, model in enumerate(models)
            ]
            pen = GenerateRequest(
                ids[0],
                parked[0],
                resolve,
                reject,
                sampling=sampling,
                codec=infos[0].codec,
                end_token_ids=infos[0].end_token_ids,
                random=self._random,
            )
            return Ensemble(pen, ids, parked, shared, combine)

        async with AsyncExitStack() as turns:
            for model in sorted(set(models)):  # always in the same order, to avoid a deadlock
                await turns.enter_async_context(self._turns[model])
            completion: Completion = await self.threads.run_together(models, make)
        return completion

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        """Natural-log probabilities of `choices` as the next token, under the full softmax."""
        (await self.engine.info(model)).check_ids(choices)
        scores: list[float] = await self._peek(model, prompt, "logprobs", choices=list(choices))
        return scores

    async def read(self, model: str, prompt: Prompt) -> None:
        """Encode the prompt now, so that no later fork has to; does nothing where no turn continues
        from what is encoded."""
        if self.engine.running(model).continues:
            await self._peek(model, prompt, "logprobs", choices=[])

    async def prompt_logprobs(self, model: str, prompt: Prompt, top: int) -> tuple[Token, ...]:
        """The prompt's tokens with their log-probabilities and the `top` most probable ones in
        their places; the first has none. The whole prompt is encoded for it."""
        ids = (await self.engine.info(model)).prompt_ids(prompt, 1)
        async with self._turns[model]:
            make = partial(PromptScoreRequest, ids, self._kept(model), top=top)
            tokens: tuple[Token, ...] = await self.threads.run(model, make)
        return tokens

    async def next_logprobs(self, model: str, prompt: Prompt) -> Tensor:
        """Natural-log probabilities of all tokens as the next token: float32 `[vocabulary]`."""
        logprobs: Tensor = await self._peek(model, prompt, "logprobs")
        return logprobs

    async def hidden(self, model: str, prompt: Prompt, layers: Sequence[int]) -> Tensor:
        """Hidden states of the last prompt token: float32 `[len(layers), d]`; layer 0 is the
        embedding."""
        states: Tensor = await self._peek(model, prompt, "hidden", layers=tuple(layers))
        return states

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[LocalSession]:
        """A session that shares this one's encoded tokens. It is admitted at once, because its
        parent may be waiting for it; the caller limits the number of forks."""
        async with self.admission.add(self.need):
            parked = {model: kept.fork() for model, kept in self.parked.items()}
            session = replace(self, seed=seed, parked=parked)
            try:
                yield session
            finally:
                session.close()

    def close(self) -> None:
        """Free the answer's keys and values."""
        self.parked = {}
        self.threads.sweep()

    def _kept(self, model: str) -> Parked:
        return self.parked.setdefault(model, Parked(self.tokens))

    async def _peek(
        self, model: str, prompt: Prompt, want: Literal["logprobs", "hidden"], **what: Any
    ) -> Any:
        ids = (await self.engine.info(model)).prompt_ids(prompt, 1)
        async with self._turns[model]:
            make = partial(ScoreRequest, ids, self._kept(model), want=want)
            return await self.threads.run(model, make, **what)


def _read_info(name: str, spec: ModelSpec) -> ModelInfo:
    context = context_length(spec)
    codec = TextCodec.load(spec)
    return ModelInfo(
        name=name,
        context=context,
        codec=codec,
        end_token_ids=end_token_ids(spec, codec.tokenizer),
        capabilities=frozenset(
            {
                "token_ids",
                "score",
                "exact_score",
                "hidden",
                "next_logprobs",
                "together",
                "fork",
                "entropy",
                "next_token",
                "format",
                "prompt_logprobs",
                "correction",
            }
        ),
        options=ALL_OPTIONS,
        suppressed_token_ids=suppressed_token_ids(spec),
        vocabulary=vocabulary_size(spec),
        hidden_size=hidden_size(spec),
    )
