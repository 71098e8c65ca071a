"""One model in vLLM without this package's engine: its rates, from which the floor is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from time import perf_counter

from taketurns.engines.vllm.running import RunningModel

_SHORT, _LONG = 8, 40  # tokens: the difference is the cost of steps alone
_READ = 256  # tokens of a prompt that is read
_names = count()


@dataclass(frozen=True, slots=True)
class Rates:
    """The seconds of a decode step by its rows, and of a prompt's token that is read."""

    steps: Mapping[int, float]
    read: float

    def step(self, rows: float) -> float:
        """The seconds of a step of so many rows, between those measured."""
        known = sorted(self.steps)
        rows = min(max(rows, known[0]), known[-1])
        above = next(size for size in known if size >= rows)
        below = max(size for size in known if size <= rows)
        if above == below:
            return self.steps[above]
        part = (rows - below) / (above - below)
        return (1 - part) * self.steps[below] + part * self.steps[above]


async def write(model: RunningModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[float]:
    """Write so many tokens after each prompt, all at once, as a program that knows only vLLM would.
    Returns the seconds until each first token and, last, until all are written."""
    parameters = model.library.SamplingParams(
        max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False
    )
    began, first = perf_counter(), list[float]()

    async def one(prompt: Sequence[int]) -> None:
        inputs, name = {"type": "token", "prompt_token_ids": list(prompt)}, f"bare-{next(_names)}"
        seen = False
        async for _ in model.llm.generate(inputs, parameters, name):
            if not seen:
                first.append(perf_counter() - began)
                seen = True

    await asyncio.gather(*map(one, prompts))
    return [*first, perf_counter() - began]


async def rates(model: RunningModel, rows: Sequence[int], repeats: int) -> Rates:
    """Measure a model's rates at so many `rows` a step; each is the best of `repeats`, as a floor
    must be."""
    draws = Random(1)

    def prompts(count: int, size: int) -> list[list[int]]:
        return [[draws.randrange(5, 400) for _ in range(size)] for _ in range(count)]

    async def seconds(count: int, size: int, tokens: int) -> float:
        took = [await write(model, prompts(count, size), tokens) for _ in range(repeats)]
        return min(each[-1] for each in took)

    steps = {}
    for sequences in rows:
        took = await seconds(sequences, 64, _LONG) - await seconds(sequences, 64, _SHORT)
        steps[sequences] = max(took, 0.0) / (_LONG - _SHORT)
    read = (await seconds(8, _READ, 1) - await seconds(8, 32, 1)) / (8 * (_READ - 32))
    return Rates(steps, max(read, 0.0))
