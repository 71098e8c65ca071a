"""What it saves that prompts which begin alike are encoded once.

    python -m benchmarks.beginnings.measure MODEL

Three batches of as many answers with as many tokens each, of one engine, by turns: `apart` asks as
many questions as there are answers, `seeds` asks each of fewer questions under several seeds,
`header` asks questions that differ after a common header. `time` is the processor time of all
threads over that of `apart` in the same round: the median of the rounds, between the lowest and the
highest; `encoded` is the number of prompt tokens that the model read. Questions are random tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from random import Random
from statistics import median

from taketurns.engines.local.engine import LocalEngine
from taketurns.types import ModelSpec, Sampling

Prompts = list[list[int]]


def main() -> None:
    """Print a JSON line for each batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model's folder or hub id")
    parser.add_argument("--answers", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3, help="of one question")
    parser.add_argument("--prompt", type=int, default=168, help="tokens of a question")
    parser.add_argument("--header", type=int, default=128, help="tokens that questions share")
    parser.add_argument("--written", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(_measure(parser.parse_args()))


async def _measure(chosen: argparse.Namespace) -> None:
    engine = LocalEngine({"m": ModelSpec(chosen.model, dtype="float32")})
    await engine.load("m")
    random = Random(0)
    times: dict[str, list[float]] = {}
    encoded: dict[str, int] = {}
    for number in range(chosen.rounds + 1):
        spent = {}
        for name, prompts in _batches(chosen, random).items():
            before = engine.counters("m").encoded_tokens
            began = time.process_time()
            await asyncio.gather(
                *(_ask(engine, p, i, chosen.written) for i, p in enumerate(prompts))
            )
            spent[name] = time.process_time() - began
            encoded[name] = engine.counters("m").encoded_tokens - before
        if number:  # the first round touches memory for the first time
            for name, seconds in spent.items():
                times.setdefault(name, []).append(seconds / spent["apart"])
    await engine.close()
    for name, ratios in times.items():
        row = {"time": median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        rounded = {key: round(value, 2) for key, value in row.items()}
        print(json.dumps({"batch": name, **rounded, "encoded": encoded[name]}))


def _batches(chosen: argparse.Namespace, random: Random) -> dict[str, Prompts]:
    def tokens(count: int) -> list[int]:
        return [random.randrange(1000, 2000) for _ in range(count)]

    apart = [tokens(chosen.prompt) for _ in range(chosen.answers)]
    few = [tokens(chosen.prompt) for _ in range(-(-chosen.answers // chosen.seeds))]
    header, rest = tokens(chosen.header), chosen.prompt - chosen.header
    return {
        "apart": apart,
        "seeds": [prompt for prompt in few for _ in range(chosen.seeds)][: chosen.answers],
        "header": [[*header, *tokens(rest)] for _ in range(chosen.answers)],
    }


async def _ask(engine: LocalEngine, prompt: list[int], seed: int, written: int) -> None:
    async with engine.session(seed, len(prompt) + written) as session:
        await session.generate("m", prompt, Sampling(written, temperature=1.0))


if __name__ == "__main__":
    main()
