"""The demo of `make demo`: the bundled team on held-out questions, beside each checkpoint alone on
the same questions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from taketurns.cli.terminal import Speakers, shown
from taketurns.generation.team import Team
from taketurns.runs.progress import Progress
from taketurns.tasks.base import Task
from taketurns.types import Query, Trace

TEAM = "team"


@dataclass(frozen=True, slots=True)
class Answered:
    """One system's answer to one question, with its score."""

    system: str
    task: Task
    query: Query
    trace: Trace

    @property
    def right(self) -> bool | None:
        value = self.task.score(self.query, self.trace.text).value
        return None if value is None else value >= 0.5


async def show(
    team: Team, tasks: Sequence[Task], console: Console, *, shown_each: int = 1, each: int = 8
) -> None:
    """Print `shown_each` questions per task with all answers, the team's in colour, and a table of
    right answers over `each` questions per task."""
    names = [candidate.name for candidate in team.candidates]
    systems = {TEAM: team} | {name: team.alone(name) for name in names}
    asked = [(task, query) for task in tasks for query in task.queries("test")[:each]]
    with Progress("answering", len(asked) * len(systems)) as progress:

        async def answer(system: str, task: Task, query: Query) -> Answered:
            trace = await systems[system].agenerate(query)
            progress.advance(trace.tokens)
            return Answered(system, task, query, trace)

        answers = await asyncio.gather(
            *(answer(system, task, query) for task, query in asked for system in systems)
        )
    speakers = Speakers.on(console, names)
    console.print(speakers.legend(), end="\n\n")
    for task in tasks:
        for _, query in [pair for pair in asked if pair[0] is task][:shown_each]:
            _show_question(console, speakers, [a for a in answers if a.query is query])
    console.print(_table(answers, tasks, [TEAM, *names], each))


def _show_question(console: Console, speakers: Speakers, answers: Sequence[Answered]) -> None:
    first = answers[0]
    console.print(Rule(f"{first.task.name} · {first.task.category}", align="left", style="dim"))
    console.print(Text(shown(first.query.conversation[-1].content), "bold"))
    grid = Table.grid(padding=(0, 1))
    for answered in answers:
        name = answered.system
        if name == TEAM:
            text = speakers.answer(answered.trace)
        else:
            style = speakers.style(speakers.names.index(name))
            text = Text(shown(answered.trace.text).strip(), style)
        grid.add_row(_mark(answered.right), name, text)
    console.print(grid)
    console.print()


def _mark(right: bool | None) -> Text:
    if right is None:
        return Text("?", "dim")
    return Text("✓", "bold green") if right else Text("✗", "bold red")


def _table(
    answers: Sequence[Answered], tasks: Sequence[Task], systems: Sequence[str], each: int
) -> Table:
    table = Table(
        title=f"right answers to {each} held-out questions per task", title_justify="left"
    )
    table.add_column("task")
    for system in systems:
        table.add_column(system, justify="right")
    for task in tasks:
        table.add_row(task.name, *(_count(answers, system, task) for system in systems))
    table.add_section()
    table.add_row("all", *(_count(answers, system, None) for system in systems))
    return table


def _count(answers: Sequence[Answered], system: str, task: Task | None) -> str:
    mine = [a for a in answers if a.system == system and (task is None or a.task is task)]
    return str(sum(a.right is True for a in mine))
