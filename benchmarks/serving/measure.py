"""The cost of serving, and its behaviour under load: `python -m benchmarks.serving.measure --help`.

The server is a separate process, as its users run it; the client is this process, which only reads
events from sockets. docs/results/serving.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import httpx

from benchmarks.processes import resident_bytes
from benchmarks.serving.overhead import overhead, scripted_team
from benchmarks.serving.streams import LoadResult, load, offline
from taketurns import Team
from taketurns.pocket import TASKS

SILENCE = 1.0  # seconds that a server may be silent for on a busy machine


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """A server process: its port and its process id. It is asked to drain at the end."""
    with subprocess.Popen(
        [sys.executable, *arguments], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        url = str(server.stderr.readline().split()[-1])
        while json.loads(server.stderr.readline())["message"] != "ready":
            pass
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        try:
            yield url, server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
            drain.wait(timeout=10)


def serve_scripted() -> None:
    """The other process of `overhead`."""
    from taketurns.server.config import ServeConfig
    from taketurns.server.run import serve

    serve(scripted_team(), ServeConfig(port=0), "team", lambda line: print(line, file=sys.stderr))


def measure_load(levels: Sequence[int], requests: int) -> str | None:
    """Measure concurrent streams on the bundled team, then its memory over many requests. Returns a
    message if a stream is wrong."""
    loads: list[LoadResult] = []

    def take(result: LoadResult) -> None:
        loads.append(result)
        show(result.row())

    questions = [task.queries("test")[0].text or "" for task in TASKS.values()]
    with Team.load("pocket") as team:
        cases = offline(team, questions, 8)
    with served("-m", "taketurns", "serve", "--port", "0") as (url, pid):
        asyncio.run(load(url, cases, 8, 16))  # first touches
        for streams in levels:
            take(asyncio.run(load(url, cases, streams, max(24, 3 * streams))))
        if requests:
            memory: list[tuple[int, float]] = []

            def note(done: int) -> None:
                if done % (requests // 10) == 0:
                    memory.append((done, resident_bytes(pid) / 2**20))
                    print(f"{done} requests, {memory[-1][1]:.0f} MiB", file=sys.stderr)

            take(asyncio.run(load(url, cases, 64, requests, note)))
            show({f"MiB after {done}": round(size, 1) for done, size in memory})
    return "; ".join(result.problem for result in loads if result.problem) or None


def measure_held_up() -> str | None:
    """Measure how long the bundled team's server does not respond while it answers its most
    expensive requests. Returns a message if that is too long."""
    silent: dict[str, float] = {}
    with served("-m", "taketurns", "serve", "--port", "0") as (url, _):
        for name, body in demanding().items():
            silent[name] = asyncio.run(longest_silence(url, body))
            show({"request": name, "longest silence, s": round(silent[name], 3)})
    slow = [name for name, seconds in silent.items() if seconds > SILENCE]
    return f"no response for more than {SILENCE:g} s: {', '.join(slow)}" if slow else None


def demanding() -> dict[str, dict[str, Any]]:
    """Requests that each use the maximum of one limit."""
    begun = "the words of a long beginning " * 40
    turns = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": begun}]
    words = [f"{'the words of a long beginning ' * 9}"[:250] + str(number) for number in range(64)]
    most = {"messages": turns, "n": 16, "temperature": 2, "top_p": 1.0, "max_tokens": 400}
    stops = [f"{'beginning ' * 25}{number}" for number in range(16)]
    small = {"patch_size": 1}
    return {
        "guard": most | {"taketurns": {**small, "guard": {"words": words, "to": 2}}},
        "stop strings": most | {"stop": stops, "taketurns": small},
        "log-probabilities": most | {"logprobs": True, "top_logprobs": 20},
        "a long prompt": {"messages": [{"role": "user", "content": "far too long " * 75_000}]},
    }


async def longest_silence(url: str, body: dict[str, Any]) -> float:
    """The longest response time of /health in seconds, asked again and again while a request is
    answered."""
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        longest = 0.0
        while not asked.done():
            begun = perf_counter()
            (await client.get("/health")).raise_for_status()
            longest = max(longest, perf_counter() - begun)
            await asyncio.sleep(0.01)
        if (reply := await asked).status_code not in (200, 400):
            reply.raise_for_status()
    return longest


def measure_overhead(levels: Sequence[int]) -> None:
    """Measure what HTTP adds to a scripted engine's first token and to every further one."""
    with served("-m", "benchmarks.serving.measure", "serve-scripted") as (url, pid):
        asyncio.run(overhead(url, pid, 64, 128))  # a process takes longer over its first requests
        for streams in levels:
            show(asyncio.run(overhead(url, pid, streams, 10 * streams)))


def show(figures: dict[str, Any]) -> None:
    """A line of JSON on standard output."""
    print(json.dumps(figures), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["load", "held-up", "overhead", "serve-scripted"])
    parser.add_argument("--streams", type=int, nargs="+", help="default: 1 8 64 256; overhead 8 64")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory test; 0: none")
    chosen = parser.parse_args()
    if chosen.what == "load":
        sys.exit(measure_load(chosen.streams or [1, 8, 64, 256], chosen.requests))
    elif chosen.what == "held-up":
        sys.exit(measure_held_up())
    elif chosen.what == "overhead":
        measure_overhead(chosen.streams or [8, 64])
    else:
        serve_scripted()


if __name__ == "__main__":
    main()
