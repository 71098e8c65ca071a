"""What a thread for each model gives on a CPU: two models at the same time, beside one after the
other.

    python -m benchmarks.threads.measure

Two Llamas of one size write with the same seeds in three engines: a thread for both models, a
thread for each, and a thread for both with two threads an operation. `alone`: each model writes
answers of its own. `together`: the two write one text as an ensemble. `turns`: they take turns in
patches, each patch's speaker drawn at random. Engines alternate in short rounds, so that other
work on the machine meets all of them. `steps` are forwards of either model in a second of the
wall clock; `gain` is the ratio to the first engine in the same round. `cores` is processor time per
wall-clock time: on a machine with other work, a second thread cannot have a whole core, and the
gain is lower. `milliseconds` is the processor time of a step, which such work hardly changes.
Numbers are medians of the rounds, between the lowest and the highest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.formats.vocabulary import learned_tokenizer
from taketurns import Candidate, ModelSpec, Policy, Team
from taketurns.engines.local.engine import LocalEngine
from taketurns.switchers.simple import RandomSwitcher
from taketurns.types import Sampling

PROMPT = "def measure(team, batch, rounds):\n    "
PATCH = 20
VOCABULARY = 8192
SHAPES: dict[str, dict[str, int]] = {
    "5M": {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 704},
    "30M": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1408},
    "100M": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2048},
}
ENGINES: dict[str, dict[str, Any]] = {
    "one thread": {"parallel": 1, "threads": 1},
    "a thread each": {"parallel": 2, "threads": 1},
    "one thread, two an operation": {"parallel": 1, "threads": 2},
}
MODELS = ("0", "1")


@dataclass(frozen=True)
class Cost:
    """What a piece of work took: forwards, seconds, seconds of the processor."""

    steps: int
    wall: float
    processor: float

    @property
    def rate(self) -> float:
        return self.steps / self.wall


def main() -> None:
    """Print a JSON line for each kind of work, batch and engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="30M")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--deterministic", action="store_true", help="exact rounds, the default")
    chosen = parser.parse_args()
    with TemporaryDirectory() as home:
        candidates = _save_models(Path(home), SHAPES[chosen.shape])
        asyncio.run(_measure(candidates, chosen))


async def _measure(candidates: list[Candidate], chosen: Any) -> None:
    engines = {}
    for name, threads in ENGINES.items():
        specs = {candidate.name: candidate.spec for candidate in candidates}
        engine = LocalEngine(specs, deterministic=chosen.deterministic, **threads)
        policy = Policy(patch_size=PATCH, max_tokens=chosen.tokens, temperature=1.0)
        engines[name] = (engine, Team(candidates, engine, RandomSwitcher(), policy))
        for model in MODELS:
            await engine.load(model)
    for work in chosen.work:
        for batch in chosen.batches:
            costs: dict[str, list[Cost]] = {name: [] for name in engines}
            for number in range(chosen.rounds + 1):
                for name, (engine, team) in engines.items():
                    write = WORK[work](engine, team, chosen.tokens)
                    cost = await _cost(engine, write, batch, number)
                    if number:  # the first round warms caches up
                        costs[name].append(cost)
            _print(work, batch, costs, chosen)
    for engine, _ in engines.values():
        await engine.close()


def _save_models(home: Path, shape: dict[str, int]) -> list[Candidate]:
    tokenizer = learned_tokenizer(VOCABULARY)
    config = LlamaConfig(
        **shape,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    candidates = []
    for seed, name in enumerate(MODELS):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
        candidates.append(Candidate(name, ModelSpec(str(home / name), prompt="{text}")))
    return candidates


Write = Callable[[int], Awaitable[Any]]
"""Writes the answer of a seed, or of a seed for each model."""


def _alone(engine: LocalEngine, team: Team, tokens: int) -> Write:
    async def write(seed: int) -> None:
        async with asyncio.TaskGroup() as both:
            for model in MODELS:
                both.create_task(one(model, seed))

    async def one(model: str, seed: int) -> None:
        ids = (await engine.info(model)).codec.encode(PROMPT)
        async with engine.session(seed, 2 * tokens) as session:
            await session.generate(model, ids, Sampling(tokens))

    return write


def _together(engine: LocalEngine, team: Team, tokens: int) -> Write:
    async def write(seed: int) -> None:
        ids = (await engine.info(MODELS[0])).codec.encode(PROMPT)
        async with engine.session(seed, 2 * tokens) as session:
            await session.generate_together(MODELS, [ids, ids], Sampling(tokens), _average)

    return write


def _turns(engine: LocalEngine, team: Team, tokens: int) -> Write:
    async def write(seed: int) -> None:
        trace = await team.agenerate(PROMPT, seed=seed)
        assert trace.error is None, trace.error

    return write


WORK = {"alone": _alone, "together": _together, "turns": _turns}


def _average(logprobs: Tensor) -> Tensor:
    return logprobs.mean(1)


async def _cost(engine: LocalEngine, write: Write, batch: int, number: int) -> Cost:
    before = _steps(engine)
    wall, processor = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write(1000 * number + row) for row in range(batch)))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Cost(_steps(engine) - before, wall, processor)


def _steps(engine: LocalEngine) -> int:
    return sum(engine.counters(model).forwards for model in MODELS)


def _print(work: str, batch: int, costs: dict[str, list[Cost]], chosen: Any) -> None:
    first = costs[next(iter(costs))]
    for name, rounds in costs.items():
        gains = [cost.rate / base.rate for cost, base in zip(rounds, first, strict=True)]
        line = {
            "work": work,
            "shape": chosen.shape,
            "batch": batch,
            "engine": name,
            "gain": round(median(gains), 2),
            "from": round(min(gains), 2),
            "to": round(max(gains), 2),
            "steps": round(median(cost.rate for cost in rounds), 1),
            "cores": round(median(cost.processor / cost.wall for cost in rounds), 2),
            "milliseconds": round(median(1000 * c.processor / c.steps for c in rounds), 2),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
