"""The time that HTTP adds to a scripted team, compared with the same team in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from statistics import mean
from time import perf_counter
from typing import Any

from benchmarks.processes import processor_seconds
from benchmarks.serving.endpoints import CHAT, Question
from benchmarks.serving.streams import ask, percentile
from taketurns import Candidate, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Delta, Sampling

DELAY = 0.02  # seconds a token of the scripted engine
LENGTH = 100  # tokens of its answers


def scripted_team() -> Team:
    """Two candidates that write a token every 20 ms and switch every 25 tokens."""

    def write(prompt: str, sampling: Sampling) -> str:
        return "a" * sampling.max_tokens

    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in ("a", "b")]
    engine = ScriptedEngine({"a": write, "b": write}, delay=DELAY)
    return Team(candidates, engine, FixedSwitcher([0, 1]), Policy(25, max_tokens=LENGTH))


async def overhead(url: str, pid: int, streams: int, requests: int) -> dict[str, Any]:
    """A served scripted team compared with the same team in this process."""
    question = Question("Q?", 0, None, LENGTH)
    team = scripted_team()

    async def direct() -> list[float]:
        begun = perf_counter()
        return [perf_counter() - begun async for e in team.stream("Q?") if isinstance(e, Delta)]

    async def over_http() -> list[float]:
        return (await ask(url, CHAT, question)).times

    before = processor_seconds()
    direct_times = await _side_by_side(direct, streams, requests)
    spent = [processor_seconds() - before]
    before = processor_seconds(pid)
    served_times = await _side_by_side(over_http, streams, requests)
    spent.append(processor_seconds(pid) - before)
    tokens = requests * LENGTH
    first = [percentile([times[0] for times in runs], 50) for runs in (direct_times, served_times)]
    late = [percentile([times[0] for times in runs], 95) for runs in (direct_times, served_times)]
    gap = [
        mean((t[-1] - t[0]) / (len(t) - 1) for t in runs) for runs in (direct_times, served_times)
    ]
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
    run: Callable[[], Awaitable[list[float]]], streams: int, requests: int
) -> list[list[float]]:
    """Runs `streams` at the same time; each begins up to 100 ms after the one before it has ended,
    so that they do not all arrive at once."""
    runs: list[list[float]] = []
    pauses = Random(0)
    left = iter(range(requests))

    async def one_after_another() -> None:
        for _ in left:
            await asyncio.sleep(pauses.uniform(0, 0.1))
            runs.append(await run())

    await asyncio.gather(*(one_after_another() for _ in range(streams)))
    return runs
