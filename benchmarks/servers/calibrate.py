"""Measure the costs of one vLLM server, for `taketurns plan --costs`:

    python -m benchmarks.servers.calibrate http://127.0.0.1:8000 aligned -o costs.json

Asks only this server, with prompts of random tokens that are in no cache. The cost of a step at
each batch size is the difference between long and short answers, that of a prompt token the
difference between long and short prompts, and that of the network the rest of a single call. The
cost of HTTP per request and per token is the processor time of this process and of the server's
front; for a server on another machine it is the time of a request among many at once, and the cost
per token is left at zero. With `--clock cpu` steps and prompts are processor time too: for models
on a busy CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any
from urllib.parse import urlsplit

import psutil

from taketurns.engines.http.client import Client, Key

SHORT, LONG = 32, 1024  # prompt tokens
STEPS = 64
SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Took:
    """Seconds: on the clock, of this process, of the server's front, and of the rest of the
    server."""

    wall: float
    client: float
    front: float
    engine: float

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall - other.wall, self.client - other.client,
                    self.front - other.front, self.engine - other.engine)  # fmt: skip


class TimedServer:
    """A model called `name` at `url`, asked by token ids below `vocabulary`."""

    def __init__(self, url: str, name: str, vocabulary: int) -> None:
        self._url = f"{url}/v1/completions"
        self.name = name
        self._vocabulary = vocabulary
        self._random = Random(0)
        self._client = Client()
        self.processes = processes(url)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, prompt: int, tokens: int) -> None:
        """One completion of exactly `tokens` tokens, sampled like a team's patches."""
        ids = [self._random.randrange(10, self._vocabulary) for _ in range(prompt)]
        body: dict[str, Any] = {
            "model": self.name, "prompt": ids, "max_tokens": tokens, "ignore_eos": True,
            "temperature": 0.7, "top_p": 0.9, "seed": self._random.randrange(2**31),
            "return_token_ids": True,
        }  # fmt: skip
        reply = await self._client.post(self._url, body, Key(), 600)
        assert reply["usage"]["completion_tokens"] == tokens

    async def time(self, calls: int, prompt: int, tokens: int) -> Took:
        """Several calls at the same time."""
        before, begun, client = self._used(), perf_counter(), process_time()
        await asyncio.gather(*(self.ask(prompt, tokens) for _ in range(calls)))
        wall, client = perf_counter() - begun, process_time() - client
        front, engine = (b - a for a, b in zip(before, self._used(), strict=True))
        return Took(wall, client, front, engine)

    def _used(self) -> tuple[float, float]:
        spent = [sum(process.cpu_times()[:2]) for process in self.processes]
        return (spent[0], sum(spent[1:])) if spent else (0.0, 0.0)


def processes(url: str) -> list[psutil.Process]:
    """The processes of the server's front and engine, if they run on this machine; otherwise
    none."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return []
    asked = ["--port", str(parts.port)]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "serve" in words and any(words[i : i + 2] == asked for i in range(len(words))):
            return [process, *process.children(recursive=True)]
    return []


@dataclass(frozen=True)
class CostMeasurement:
    """The measurements of one server. `steps` has those of each batch size, `asked` those of many
    short calls at once, `alone` those of one; `short` and `long` are calls of one token after short
    and long prompts."""

    name: str
    local: bool
    steps: dict[int, list[Took]]
    short: list[Took]
    long: list[Took]
    asked: list[Took]

    def costs(self, clock: str) -> dict[str, Any]:
        """The costs in the format of `taketurns plan`."""

        def seconds(took: Took) -> float:
            return took.engine if clock == "cpu" else took.wall

        decode: list[tuple[int, float]] = []
        for size, steps in self.steps.items():
            step = median(map(seconds, steps)) / STEPS
            decode.append((size, max(step, decode[-1][1] if decode else 0.0)))
        apart = median(map(seconds, self.long)) - median(map(seconds, self.short))
        prefill = max(0.0, apart / (LONG - SHORT))
        most = max(SIZES)
        client = median(took.client for took in self.asked) / most
        if self.local:
            token = max(0.0, median(took.front for took in self.steps[most]) / (most * STEPS))
            request = max(0.0, median(took.front for took in self.asked) / most - token)
        else:
            token, request = 0.0, median(took.wall for took in self.asked) / most
        known = client + request + token + decode[0][1] + SHORT * prefill
        alone = median(took.wall for took in self.short)
        return {
            "about": f"{self.name}, by benchmarks/servers/calibrate.py, {clock} clock",
            "decode": decode,
            "prefill": prefill,
            "request": request,
            "token": token,
            "client": client,
            "network": max(0.0, (alone - known) / 2) if clock == "wall" else 0.0,
        }


async def measure(url: str, name: str, vocabulary: int, repeats: int = 3) -> CostMeasurement:
    """Measure the server `name` at `url`, which has all token ids below `vocabulary`."""
    server = TimedServer(url, name, vocabulary)
    try:
        return await _measure(server, repeats)
    finally:
        await server.close()


async def _measure(server: TimedServer, repeats: int) -> CostMeasurement:
    for size in (1, max(SIZES)):
        await server.time(size, SHORT, STEPS)  # kernels are made at first use
    steps: dict[int, list[Took]] = {size: [] for size in SIZES}
    for size in SIZES:
        for _ in range(repeats):
            short, long = [await server.time(size, SHORT, n) for n in (1, 1 + STEPS)]
            steps[size].append(long - short)
    pairs = [
        [await server.time(1, length, 1) for length in (SHORT, LONG)] for _ in range(4 * repeats)
    ]
    asked = [await server.time(max(SIZES), SHORT, 1) for _ in range(2 * repeats)]
    return CostMeasurement(
        server.name,
        bool(server.processes),
        steps,
        short=[short for short, _ in pairs],
        long=[long for _, long in pairs],
        asked=asked,
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("model", help="the model's name on the server")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=400, help="token ids below this exist")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--repeats", type=int, default=3)
    for limit in ("block", "cache", "sequences", "budget"):
        parser.add_argument(
            f"--{limit}", type=int, help="the server's limit (default: not written)"
        )
    parser.add_argument("--no-chunked", dest="chunked", action="store_false")
    options = parser.parse_args()
    took = asyncio.run(measure(options.url, options.model, options.vocabulary, options.repeats))
    costs = took.costs(options.clock)
    for limit in ("block", "cache", "sequences", "budget"):
        if getattr(options, limit) is not None:
            costs[limit] = getattr(options, limit)
    options.output.write_text(json.dumps(costs | {"chunked": options.chunked}, indent=1) + "\n")


if __name__ == "__main__":
    main()
