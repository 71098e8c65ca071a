"""Answers of one switcher under one policy: what each was worth, and what it took.

    python benchmarks/adaptive/measure.py SWITCHER --output FILE [--split dev] [--limit N]
        [--seeds N] [--set KEY=VALUE …]

FILE is {"answers": {task: [[{score, calls, switches, patches, tokens, ends} a seed] a question]}}
on all pocket tasks. `calls` are the times that a speaker was chosen by the switcher; `switches` the
times that it was another one than before; `ends` counts why patches ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from taketurns.config.loading import load_team_config
from taketurns.config.settings import parse_setting
from taketurns.generation.team import Team
from taketurns.pocket.score import UNDER_WAY
from taketurns.pocket.tasks import TASKS
from taketurns.tasks.base import Split, Task
from taketurns.types import Query, Trace

Record = dict[str, Any]


def count(trace: Trace, score: float) -> Record:
    """The figures of one answer."""
    speakers = [patch.speaker for patch in trace.patches]
    return {
        "score": score,
        "calls": sum(patch.probabilities is not None for patch in trace.patches),
        "switches": sum(one != other for one, other in pairwise(speakers)),
        "patches": len(trace.patches),
        "tokens": trace.tokens,
        "ends": dict(Counter(patch.finish for patch in trace.patches)),
    }


async def measure(
    team: Team, split: Split, limit: int, seeds: int
) -> dict[str, list[list[Record]]]:
    """Every answer's figures. Raises RuntimeError if one fails."""
    gate = asyncio.Semaphore(UNDER_WAY)

    async def answer(task: Task, query: Query, seed: int) -> Record:
        async with gate:
            trace = await team.agenerate(query, seed=team.policy.seed + seed)
        if trace.error is not None:
            raise RuntimeError(trace.error)
        return count(trace, float(task.score(query, trace.text).value or 0.0))

    async def question(task: Task, query: Query) -> list[Record]:
        return list(await asyncio.gather(*(answer(task, query, seed) for seed in range(seeds))))

    async def of_task(task: Task) -> list[list[Record]]:
        asked = task.queries(split)[:limit]
        return list(await asyncio.gather(*(question(task, query) for query in asked)))

    # All tasks together, so that batches are large.
    answered = await asyncio.gather(*map(of_task, TASKS.values()))
    return dict(zip(TASKS, answered, strict=True))


async def run(options: argparse.Namespace) -> None:
    """Measure and write; the file appears when it is whole."""
    changes = dict(parse_setting(setting) for setting in options.set)
    config = load_team_config(options.switcher, {"policy.patch": None, **changes})
    async with Team.load(config) as team:
        found = await measure(team, options.split, options.limit, options.seeds)
    draft = options.output.with_suffix(".draft")
    draft.write_text(json.dumps({"set": options.set, "answers": found}) + "\n", encoding="utf-8")
    draft.replace(options.output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("switcher", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--limit", type=int, default=40, help="questions a task")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE")
    asyncio.run(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
