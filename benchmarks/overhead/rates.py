"""The speed of one model in steps and in reading: the better of transformers and of our engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from benchmarks.overhead.floor import Rates
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.plain import generate
from benchmarks.overhead.workload import Workload
from taketurns.engines.local.engine import LocalEngine, LocalSession
from taketurns.engines.local.plain_forward import kv_argument
from taketurns.types import Sampling
from taketurns.utils.seeds import generator

SHORT, LONG = 4, 36
TRIES = 3


async def measure_rates(
    pool: ModelPool, workload: Workload, steps: Iterable[int], reads: Iterable[int]
) -> Rates:
    """Rates of the first candidate at the mean cache length of an answer, for each number of rows.
    The cost of a step is the difference between a long and a short run. The lower of the two costs
    counts, each the median of a few runs."""
    engine = pool.engine()
    probe = _Probe(pool, engine, workload)
    try:
        await engine.load(probe.name)
        return Rates(
            {rows: await probe.step(rows) for rows in sorted(steps)},
            {rows: await probe.read(rows) for rows in sorted(reads)},
        )
    finally:
        await engine.close()


class _Probe:
    """Times one model at a fixed cache length."""

    def __init__(self, pool: ModelPool, engine: LocalEngine, workload: Workload) -> None:
        self.name = pool.candidates[0].name
        self._model = pool.model(self.name)
        self._engine = engine
        self._workload = workload
        self._length = workload.prompt + workload.tokens // 2
        random = generator(workload.seed)
        self._ids: list[int] = random.integers(
            pool.words, size=self._length + workload.patch
        ).tolist()

    async def step(self, rows: int) -> float:
        """Seconds of a forward pass that gives each row one more token, with sampling."""
        start = max(1, self._length - (SHORT + LONG) // 2)
        prompts = [self._ids[:start]] * rows
        workload = self._workload

        def plain(tokens: int) -> None:
            generate(
                self._model,
                prompts,
                tokens,
                temperature=workload.temperature,
                top_p=workload.top_p,
            )

        plain_seconds: dict[int, list[float]] = {SHORT: [], LONG: []}
        engine_seconds: dict[int, list[float]] = {SHORT: [], LONG: []}
        for _ in range(TRIES):
            for tokens in (SHORT, LONG):
                plain_seconds[tokens].append(self._seconds(partial(plain, tokens)))
                engine_seconds[tokens].append(await self._write(prompts, tokens))
        both = [median(way[LONG]) - median(way[SHORT]) for way in (plain_seconds, engine_seconds)]
        return max(0.0, min(both)) / (LONG - SHORT)

    async def read(self, rows: int) -> float:
        """Seconds per token to append a block of a patch's size to each row's cache."""
        plain_seconds = self._append_plainly(rows)
        engine_seconds = [await self._append(rows) for _ in range(TRIES)]
        return min(median(plain_seconds), median(engine_seconds)) / (rows * self._workload.patch)

    async def _write(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        sampling = Sampling(tokens, self._workload.temperature, self._workload.top_p)

        async def one(session: LocalSession, prompt: Sequence[int]) -> None:
            await session.generate(self.name, prompt, sampling)

        return await self._in_sessions(prompts, one)

    async def _append(self, rows: int) -> float:
        whole = self._ids

        async def before(session: LocalSession) -> None:
            await session.score(self.name, whole[: self._length + 1], [0])

        async def one(session: LocalSession, prompt: Sequence[int]) -> None:
            await session.score(self.name, prompt, [0])

        return await self._in_sessions([whole] * rows, one, before)

    async def _in_sessions(
        self,
        prompts: Sequence[Sequence[int]],
        work: Callable[[LocalSession, Sequence[int]], Any],
        before: Callable[[LocalSession], Any] | None = None,
    ) -> float:
        """Seconds of `work` on all prompts at once, each in its own session; `before` runs first in
        each session and is not timed."""
        ready = asyncio.Barrier(len(prompts) + 1)
        longest = max(map(len, prompts)) + LONG

        async def run(seed: int, prompt: Sequence[int]) -> None:
            async with self._engine.session(seed, longest) as session:
                if before is not None:
                    await before(session)
                await ready.wait()
                await work(session, prompt)

        async with asyncio.TaskGroup() as group:
            running = [group.create_task(run(seed, ids)) for seed, ids in enumerate(prompts)]
            await ready.wait()
            begun = self._workload.now()
            await asyncio.gather(*running)
            return self._workload.now() - begun

    @torch.inference_mode()
    def _append_plainly(self, rows: int) -> list[float]:
        device = self._model.device
        cache = DynamicCache(config=self._model.config)
        head = torch.tensor([self._ids[: self._length]] * rows, device=device)
        block = torch.tensor([self._ids[self._length :]] * rows, device=device)
        self._read_block(head, cache)
        tries = []
        for _ in range(TRIES):
            tries.append(self._seconds(lambda: self._read_block(block, cache)))
            cache.crop(-block.shape[1])
        return tries

    def _read_block(self, block: torch.Tensor, cache: DynamicCache) -> None:
        result = self._model(
            input_ids=block,
            use_cache=True,
            logits_to_keep=1,
            **{kv_argument(self._model): cache},
        )
        result.logits.argmax(-1).tolist()  # waits for the device

    def _seconds(self, work: Callable[[], Any]) -> float:
        begun = self._workload.now()
        work()
        return self._workload.now() - begun
