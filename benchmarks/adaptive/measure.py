"""Score and cost of one switcher's answers under one policy.

    python -m benchmarks.adaptive.measure SWITCHER --output FILE [--split dev] [--limit N]
        [--seeds N] [--set KEY=VALUE …]

FILE is {"answers": {task: [[{score, calls, switches, patches, tokens, ends} a seed] a question]}}
on all pocket tasks. `calls` counts speakers that the switcher selected, `switches` changes of
speaker, and `ends` the reasons why patches ended.
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

from benchmarks.answering import answer_tasks
from taketurns.config.loading import load_team_config
from taketurns.config.settings import parse_setting
from taketurns.generation.team import Team
from taketurns.tasks.base import Task
from taketurns.types import Trace
from taketurns.utils.files import write_text


def count(task: Task, trace: Trace) -> dict[str, Any]:
    """The figures of one answer."""
    speakers = [patch.speaker for patch in trace.patches]
    return {
        "score": float(task.score(trace.query, trace.text).value or 0.0),
        "calls": sum(patch.probabilities is not None for patch in trace.patches),
        "switches": sum(before != after for before, after in pairwise(speakers)),
        "patches": len(trace.patches),
        "tokens": trace.tokens,
        "ends": dict(Counter(patch.finish for patch in trace.patches)),
    }


async def run(options: argparse.Namespace) -> None:
    """Measure and write the file, which appears when it is complete."""
    changes = dict(parse_setting(setting) for setting in options.set)
    config = load_team_config(options.switcher, {"policy.patch": None, **changes})
    async with Team.load(config) as team:
        answers = await answer_tasks(team, count, options.split, options.limit, options.seeds)
    write_text(options.output, json.dumps({"set": options.set, "answers": answers}) + "\n")


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
