"""Draw docs/trace.svg: a question that switching solved, beside each checkpoint alone.

    python docs/picture.py

The question is the first test question of its task that the bundled team gets right with some seed
and with all three speaking, and every checkpoint alone, with the same seed, gets wrong.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taketurns import Query, Team, Trace
from taketurns.cli.terminal import Speakers
from taketurns.pocket import TASKS
from taketurns.tasks.base import Task

SEEDS = 24
TASK_NAMES = ("age", "hop", "total")
TARGET = Path(__file__).with_name("trace.svg")


async def find(team: Team, task: Task) -> tuple[Query, dict[str, Trace], int]:
    """A question, its answers by system, and how many of the seeds were right."""
    names = [candidate.name for candidate in team.candidates]

    def right(query: Query, trace: Trace) -> bool:
        return bool(task.score(query, trace.text).value)

    for query in task.queries("test"):
        tries = await asyncio.gather(*(team.agenerate(query, seed=s) for s in range(SEEDS)))
        for seed, trace in enumerate(tries):
            if right(query, trace) and len({p.speaker for p in trace.patches}) == len(names):
                alone = {n: await team.alone(n).agenerate(query, seed=seed) for n in names}
                if not any(right(query, answer) for answer in alone.values()):
                    return query, {"team": trace} | alone, sum(right(query, t) for t in tries)
    raise SystemExit(f"no such question in {task.name}")


async def main() -> None:
    """Find a question for each task and draw them."""
    async with Team.load("pocket") as team:
        found = [await find(team, TASKS[name]) for name in TASK_NAMES]
        console = Console(record=True, width=104, force_terminal=True, color_system="truecolor")
        speakers = Speakers.on(console, [candidate.name for candidate in team.candidates])
        console.print(speakers.legend())
        for query, answers, solved in found:
            console.print(Text(f"\n{query.text}", "bold"), Text(f"  {query.reference}", "dim"))
            grid = Table.grid(padding=(0, 1))
            for name, trace in answers.items():
                mark = Text("✓", "green") if name == "team" else Text("✗", "red")
                if name == "team":
                    text = speakers.answer(trace)
                else:
                    text = Text(trace.text.strip(), speakers.style(speakers.names.index(name)))
                grid.add_row(mark, name, text)
            console.print(grid)
            console.print(Text(f"right with {solved} of {SEEDS} seeds", "dim"))
        console.save_svg(str(TARGET), title="taketurns: three checkpoints, one answer")


asyncio.run(main())
