"""The speed of a team on servers: python -m benchmarks.servers.run team.yaml [--answers N]

The servers must be running (`taketurns launch --team team.yaml --run`). For each number of
concurrent answers, the last candidate alone and then the team answer questions of the bundled
world, drawn from all tasks; both are timed from the first request to the last token. Prints the
rows of a table, or JSON with --json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import quantiles
from time import perf_counter, process_time

from taketurns import Query, Team, Trace
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.http.engine import HttpEngine
from taketurns.integrations.planning.workload import SimulatedAnswer, recorded_answer
from taketurns.pocket.tasks import TASKS


@dataclass(frozen=True)
class ServingFigures:
    """`seconds` are for all answers, `median` and `late` (95 % quantile) for one; `busy` is the
    processor time of this process. `work` is what was asked and written, for `validate.py`."""

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
    busy: float
    work: tuple[SimulatedAnswer, ...]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def cached(self) -> float:
        return self.cached_tokens / max(1, self.prompt_tokens)


async def measure(who: str, team: Team, queries: list[Query], at_a_time: int) -> ServingFigures:
    """Answer the queries and time it."""
    engine = team.engine
    assert isinstance(engine, HttpEngine), "engine.kind of the team file must be http"
    before = total(engine)
    prompts = {query.id: (await team.draft(query)).longest_prompt for query in queries}
    free, took = asyncio.Semaphore(at_a_time), list[float]()

    async def answer(query: Query) -> Trace:
        async with free:
            begun = perf_counter()
            trace = await team.agenerate(query)
            took.append(perf_counter() - begun)
            assert trace.error is None, trace.error
            return trace

    busy, begun = process_time(), perf_counter()
    traces = await asyncio.gather(*map(answer, queries))
    seconds, busy = perf_counter() - begun, process_time() - busy
    after = total(engine)
    cuts = quantiles(took, n=20)
    return ServingFigures(
        who=who,
        at_a_time=at_a_time,
        answers=len(queries),
        tokens=sum(trace.tokens for trace in traces),
        patches=sum(len(trace.patches) for trace in traces),
        seconds=seconds,
        median=cuts[9],
        late=cuts[18],
        **{what: after[what] - before[what] for what in after},
        busy=busy,
        work=tuple(recorded_answer(trace, prompts[trace.query.id]) for trace in traces),
    )


def total(engine: HttpEngine) -> dict[str, int]:
    """The counts so far, over all models."""
    counters = [engine.counters(model) for model in engine.models]
    return {
        "requests": sum(model.requests for model in counters),
        "prompt_tokens": sum(model.prompt_tokens for model in counters),
        "cached_tokens": sum(model.cached_tokens for model in counters),
        "faults": sum(sum(model.faults.values()) for model in counters),
    }


async def measure_all(
    config: TeamConfig, answers: int = 24, at_a_time: Sequence[int] = (1, 8, 32, 64)
) -> AsyncIterator[ServingFigures]:
    """Measure the last candidate alone and the team, at each number of concurrent answers."""
    asked = [query for task in TASKS.values() for query in task.queries("test")]
    Random(0).shuffle(asked)
    async with Team.load(config) as team:
        name = config.candidates[-1].name
        for under_way in at_a_time:
            count = max(answers, 2 * under_way)
            for who, system in ((name, team.alone(name)), ("team", team)):
                # New questions each time, so that no prompt is in a cache.
                queries = [replace(asked.pop(), id=f"{who}-{i}") for i in range(count)]
                yield await measure(who, system, queries, under_way)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("team")
    parser.add_argument("--answers", type=int, default=24)
    parser.add_argument("--at-a-time", default="1,8,32,64")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    numbers = [int(number) for number in options.at_a_time.split(",")]
    async for figures in measure_all(load_team_config(options.team), options.answers, numbers):
        print(json.dumps(asdict(figures)) if options.json else line(figures), flush=True)


def line(figures: ServingFigures) -> str:
    """A row of the table."""
    return (
        f"| {figures.who} | {figures.at_a_time} | {figures.rate:.0f} | {figures.median:.2f} | "
        f"{figures.late:.2f} | {figures.requests / figures.answers:.1f} | {figures.cached:.0%} | "
        f"{figures.faults} |"
    )


if __name__ == "__main__":
    asyncio.run(main())
