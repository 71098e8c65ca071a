"""How fast a team on servers writes: python benchmarks/servers/run.py team.yaml [--answers N]

The servers must be running (`taketurns launch --team team.yaml --run`). For each number of answers
under way at a time, its last candidate alone and then the team answer questions of the bundled
world, drawn from all tasks; both are timed from the first request to the last token. Prints the
rows of a table, or JSON with --json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import quantiles
from time import perf_counter

from taketurns import Query, Team
from taketurns.config import load_team_config
from taketurns.engines.http.engine import HttpEngine
from taketurns.pocket.tasks import TASKS


@dataclass(frozen=True)
class Figures:
    """`seconds` are for all answers, `median` and `late` (95 %) for one."""

    who: str
    at_a_time: int
    answers: int
    tokens: int
    patches: int
    seconds: float
    median: float
    late: float
    requests: int
    prompt_tokens: int
    cached_tokens: int
    faults: int

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def cached(self) -> float:
        return self.cached_tokens / max(1, self.prompt_tokens)


async def measure(who: str, team: Team, queries: list[Query], at_a_time: int) -> Figures:
    """Answer the queries and time it."""
    engine = team.engine
    assert isinstance(engine, HttpEngine), "the team's engine must be http"
    before = total(engine)
    free, took = asyncio.Semaphore(at_a_time), []

    async def one(query: Query) -> tuple[int, int]:
        async with free:
            begun = perf_counter()
            trace = await team.agenerate(query)
            took.append(perf_counter() - begun)
            assert trace.error is None, trace.error
            return trace.tokens, len(trace.patches)

    begun = perf_counter()
    written = await asyncio.gather(*map(one, queries))
    seconds = perf_counter() - begun
    after = total(engine)
    cuts = quantiles(took, n=20)
    return Figures(
        who, at_a_time, len(queries), sum(t for t, _ in written), sum(p for _, p in written),
        seconds, cuts[9], cuts[18], *(b - a for a, b in zip(before, after, strict=True)),
    )  # fmt: skip


def total(engine: HttpEngine) -> tuple[int, int, int, int]:
    """Requests, prompt tokens, cached ones and faults so far, of all models."""
    every = [engine.counters(model) for model in engine.models]
    return (
        sum(one.requests for one in every),
        sum(one.prompt_tokens for one in every),
        sum(one.cached_tokens for one in every),
        sum(sum(one.faults.values()) for one in every),
    )


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("team")
    parser.add_argument("--answers", type=int, default=24)
    parser.add_argument("--at-a-time", default="1,8,32,64")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    config = load_team_config(given.team)
    asked = [query for task in TASKS.values() for query in task.queries("test")]
    Random(0).shuffle(asked)
    found = []
    async with Team.load(config) as team:
        alone = team.alone(config.candidates[-1].name)
        for at_a_time in map(int, given.at_a_time.split(",")):
            count = max(given.answers, 2 * at_a_time)
            for who, system in ((config.candidates[-1].name, alone), ("team", team)):
                # Other questions each time, so that no answer is in a cache from before.
                queries = [replace(asked.pop(), id=f"{who}-{i}") for i in range(count)]
                found.append(await measure(who, system, queries, at_a_time))
                print(json.dumps(asdict(found[-1])) if given.json else line(found[-1]), flush=True)


def line(one: Figures) -> str:
    """A row of the table."""
    return (
        f"| {one.who} | {one.at_a_time} | {one.rate:.0f} | {one.median:.2f} | {one.late:.2f} | "
        f"{one.requests / one.answers:.1f} | {one.cached:.0%} | {one.faults} |"
    )


if __name__ == "__main__":
    asyncio.run(main())
