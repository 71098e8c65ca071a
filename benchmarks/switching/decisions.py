"""The cost of a decision: extra memory and milliseconds of each trained switcher.

    python -m benchmarks.switching.decisions WORK NAME … [--answers N]

Answers are written one at a time, the same questions for every switcher, and the trace of each
patch has the time that its decision took. Random switching, which takes no time, is the baseline.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from statistics import fmean, median

from taketurns.config.loading import load_team_config
from taketurns.pocket.score import RANDOM, Methods
from taketurns.pocket.tasks import TASKS
from taketurns.utils.markdown import table


async def milliseconds(methods: Methods, method: str, answers: int) -> list[float]:
    """The milliseconds of every decision in `answers` answers per task."""
    taken = []
    for name, task in TASKS.items():
        team = methods.teams[method][name]
        for query in task.queries("dev")[: answers + 1]:
            trace = await team.agenerate(query)
            taken.append([1000 * patch.timing.decide for patch in trace.patches])
    warm = taken[1:]  # the first answer loads the weights
    return [decision for decisions in warm for decision in decisions]


def bytes_of(folder: Path) -> int:
    """The bytes of weights that only the switcher has."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


async def measure(work: Path, names: list[str], answers: int) -> None:
    """Print a table."""
    folders = {name: work / "switchers" / name for name in names}
    methods = Methods(load_team_config("pocket"), [RANDOM, *names], list(TASKS), more=folders)
    rows = []
    try:
        for name in [RANDOM, *names]:
            spent = await milliseconds(methods, name, answers)
            extra = bytes_of(folders[name]) / 1024 if name in folders else 0
            rows.append([name, f"{extra:.0f}", f"{median(spent):.2f}", f"{fmean(spent):.2f}"])
    finally:
        await methods.engine.close()
    head = ["switcher", "extra weights, KiB", "ms a decision, median", "mean"]
    print(table(head, rows), end="")


def main() -> None:
    """Measure the named switchers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--answers", type=int, default=3, help="answers a task")
    options = parser.parse_args()
    asyncio.run(measure(options.work, options.names, options.answers))


if __name__ == "__main__":
    main()
