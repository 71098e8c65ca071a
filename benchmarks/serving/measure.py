"""What serving costs, and whether it holds: `python benchmarks/serving/measure.py --help`.

The server is a process of its own, as its users run it; the client is this one, and does nothing
but read events off sockets. docs/results.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import mean, quantiles
from time import perf_counter
from typing import Any

import httpx

from taketurns import Candidate, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.pocket import TASKS
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Delta

DELAY = 0.02  # seconds a token of the scripted engine
LENGTH = 100  # tokens of its answers
SILENCE = 1.0  # seconds that a server may be silent for on a busy machine


@dataclass
class Streamed:
    """One stream as its client saw it. Times are in seconds since the request was sent."""

    status: int
    text: str = ""
    speakers: tuple[str, ...] = ()
    times: list[float] = field(default_factory=list)
    done: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """A question with its seed, and what the team writes for it offline."""

    question: str
    seed: int
    text: str
    speakers: tuple[str, ...]


@dataclass
class Load:
    """What came of many streams."""

    streams: int
    requests: int = 0
    whole: int = 0
    equal: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The figures, as they are printed."""
        return {
            "streams": self.streams,
            "requests": self.requests,
            "whole": self.whole,
            "equal to offline": self.equal,
            "first token p50, ms": round(1000 * percentile(self.first, 50), 1),
            "first token p95, ms": round(1000 * percentile(self.first, 95), 1),
            "tokens/s": round(self.tokens / self.seconds),
            "requests/s": round(self.requests / self.seconds, 1),
        }

    @property
    def problem(self) -> str | None:
        """What must not be."""
        parts = {
            "not whole": self.requests - self.whole,
            "not equal to offline": self.requests - self.equal,
        }
        wrong = " and ".join(f"{count} {what}" for what, count in parts.items() if count)
        asked = f"of {self.requests} streams, {self.streams} side by side"
        return f"{asked}, {wrong}" if wrong else None


# The client


async def ask(url: str, body: dict[str, Any]) -> Streamed:
    """One streamed answer, on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    payload = json.dumps(body | {"stream": True}).encode()
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    begun = perf_counter()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (host.encode(), len(payload))
        + payload
    )
    streamed = Streamed(int((await reader.readline()).split()[1]))
    events: list[tuple[float, bytes]] = []
    while line := await reader.readline():
        if line.startswith(b"data: "):
            events.append((perf_counter() - begun, line[6:].strip()))
    writer.close()
    _read(events, streamed)
    return streamed


def _read(events: Sequence[tuple[float, bytes]], streamed: Streamed) -> None:
    speakers = []
    for at, data in events:
        if data == b"[DONE]":
            streamed.done = True
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            streamed.error = chunk["error"]["message"]
            continue
        choice = chunk["choices"][0]
        turns = choice.get("taketurns", {})
        if "speaker" in turns:
            streamed.text += choice["delta"].get("content", "")
            streamed.times.append(at)
        if "patch" in turns:
            speakers.append(turns["patch"]["name"])
    streamed.speakers = tuple(speakers)


async def load(
    url: str,
    cases: Sequence[Case],
    streams: int,
    requests: int,
    note: Callable[[int], None] = lambda done: None,
) -> Load:
    """Keep `streams` requests under way until `requests` are answered."""
    result = Load(streams)
    left = iter(range(requests))
    order = Random(streams)

    async def one_after_another() -> None:
        for _ in left:
            case = order.choice(cases)
            body = {"messages": [{"role": "user", "content": case.question}], "seed": case.seed}
            streamed = await ask(url, body)
            result.requests += 1
            result.whole += streamed.done and streamed.error is None
            result.equal += (streamed.text, streamed.speakers) == (case.text, case.speakers)
            result.tokens += len(streamed.times)
            result.first += streamed.times[:1]
            note(result.requests)

    begun = perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(streams)))
    result.seconds = perf_counter() - begun
    return result


def offline(team: Team, questions: Sequence[str], seeds: int) -> list[Case]:
    """What the team writes for each question and seed when nobody serves it."""
    names = [candidate.name for candidate in team.candidates]
    cases = []
    for seed in range(seeds):
        for question in questions:
            trace = team.generate(question, seed=seed)
            speakers = tuple(names[patch.speaker or 0] for patch in trace.patches)
            cases.append(Case(question, seed, trace.text, speakers))
    return cases


# The server


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """A server process: where it listens, and its process id. It is asked to drain in the end."""
    with subprocess.Popen(
        [sys.executable, *arguments], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        while json.loads(server.stderr.readline())["message"] != "ready":
            pass
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        try:
            yield url, server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
            drain.wait(timeout=10)


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used; other work on the machine is not in it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scripted_team() -> Team:
    """Two candidates that write a token every 20 ms, switching every 25."""

    def write(prompt: str, sampling: Any) -> str:
        return "a" * sampling.max_tokens

    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in ("a", "b")]
    engine = ScriptedEngine({"a": write, "b": write}, delay=DELAY)
    return Team(candidates, engine, FixedSwitcher([0, 1]), Policy(25, max_tokens=LENGTH))


def serve_scripted() -> None:
    """The other process of `overhead`."""
    from taketurns.server.config import ServeConfig
    from taketurns.server.run import serve

    serve(scripted_team(), ServeConfig(port=0), "team", lambda said: print(said, file=sys.stderr))


# What is measured


def measure_load(levels: Sequence[int], requests: int) -> str | None:
    """Streams side by side on the bundled team; then its memory over many requests. Returns what is
    wrong with the streams, if anything is."""
    loads: list[Load] = []

    def take(one: Load) -> None:
        loads.append(one)
        show(one.row())

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
                    memory.append((done, resident(pid)))
                    print(f"{done} requests, {memory[-1][1]:.0f} MiB", file=sys.stderr)

            take(asyncio.run(load(url, cases, 64, requests, note)))
            show({f"MiB after {done}": round(size, 1) for done, size in memory})
    return "; ".join(one.problem for one in loads if one.problem) or None


def measure_held_up() -> str | None:
    """How long the bundled team's server is silent while it answers the requests that ask most of
    it. Returns what is wrong, if it is longer than it may be."""
    silent: dict[str, float] = {}
    with served("-m", "taketurns", "serve", "--port", "0") as (url, _):
        for name, body in demanding().items():
            silent[name] = asyncio.run(longest_silence(url, body))
            show({"request": name, "longest silence, s": round(silent[name], 3)})
    slow = [name for name, seconds in silent.items() if seconds > SILENCE]
    return f"silent for more than {SILENCE:g} s: {', '.join(slow)}" if slow else None


def demanding() -> dict[str, dict[str, Any]]:
    """Requests of which each has as much of something as may be asked for."""
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
    """Seconds that /health took at most while a request was answered, asked anew all the time."""
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
    """What HTTP adds to a scripted engine's first token and to every further one."""
    with served(__file__, "serve-scripted") as (url, pid):
        asyncio.run(overhead(url, pid, 4, 4))  # first touches
        for streams in levels:
            show(asyncio.run(overhead(url, pid, streams, 3 * streams)))


async def overhead(url: str, pid: int, streams: int, requests: int) -> dict[str, Any]:
    """A scripted team served, beside the same team in this process."""
    body = {"messages": [{"role": "user", "content": "Q?"}]}
    team = scripted_team()

    async def direct() -> list[float]:
        begun = perf_counter()
        return [perf_counter() - begun async for e in team.stream("Q?") if isinstance(e, Delta)]

    async def over_http() -> list[float]:
        return (await ask(url, body)).times

    before = processor(os.getpid())
    ours = await _side_by_side(direct, streams, requests)
    spent = [processor(os.getpid()) - before]
    before = processor(pid)
    theirs = await _side_by_side(over_http, streams, requests)
    spent.append(processor(pid) - before)
    tokens = requests * LENGTH
    first = [percentile([times[0] for times in runs], 50) for runs in (ours, theirs)]
    late = [percentile([times[0] for times in runs], 95) for runs in (ours, theirs)]
    gap = [mean((t[-1] - t[0]) / (len(t) - 1) for t in runs) for runs in (ours, theirs)]
    return {
        "streams": streams,
        "first token p50, ms, direct": round(1000 * first[0], 2),
        "served": round(1000 * first[1], 2),
        "added": round(1000 * (first[1] - first[0]), 2),
        "added p95": round(1000 * (late[1] - late[0]), 2),
        "per token, ms, direct": round(1000 * gap[0], 3),
        "per token served": round(1000 * gap[1], 3),
        "per token added": round(1000 * (gap[1] - gap[0]), 3),
        "processor per token, ms, direct": round(1000 * spent[0] / tokens, 3),
        "processor per token served": round(1000 * spent[1] / tokens, 3),
    }


async def _side_by_side(
    one: Callable[[], Awaitable[list[float]]], streams: int, requests: int
) -> list[list[float]]:
    """Runs `streams` at a time; each begins up to 100 ms after the one before it has ended, so that
    they do not all arrive in the same moment."""
    runs: list[list[float]] = []
    pauses = Random(0)
    left = iter(range(requests))

    async def one_after_another() -> None:
        for _ in left:
            await asyncio.sleep(pauses.uniform(0, 0.1))
            runs.append(await one())

    await asyncio.gather(*(one_after_another() for _ in range(streams)))
    return runs


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


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
