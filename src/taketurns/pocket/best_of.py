"""Best of n: the questions that any of n answers solves, by random switching and by each
checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from taketurns.evaluation.asking import by_task, requests, score_all
from taketurns.generation.team import Team
from taketurns.pocket.acceptance import PairedShares, switching_beats_chance
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Split, Task
from taketurns.types import Query, Trace

RANDOM = "random"
UNDER_WAY = 256


@dataclass(frozen=True, slots=True)
class BestOf:
    """`solved[system][task]` has for each question whether any of `samples` answers was right; the
    systems are the checkpoints' names and "random"."""

    samples: int
    split: Split
    solved: Mapping[str, Mapping[str, tuple[bool, ...]]]

    def share(self, system: str) -> float:
        """The share of questions solved, over all tasks."""
        results = [solved for task in self.solved[system].values() for solved in task]
        return sum(results) / len(results)

    def to_json(self) -> dict[str, Any]:
        """Shares by system and task, and the acceptance test."""
        best, test = self.gate()
        return {
            "samples": self.samples,
            "split": self.split,
            "solved": {
                system: {task: sum(solved) / len(solved) for task, solved in tasks.items()}
                | {"all": self.share(system)}
                for system, tasks in self.solved.items()
            },
            "best": best,
            "paired": asdict(test),
        }

    def gate(self) -> tuple[str, PairedShares]:
        """The best single checkpoint in hindsight, and the paired test of random switching against
        it."""
        alone = {name: tasks for name, tasks in self.solved.items() if name != RANDOM}
        return switching_beats_chance(self.solved[RANDOM], alone)


async def best_of(
    team: Team,
    tasks: Mapping[str, Task],
    *,
    split: Split = "test",
    questions: int = 15,
    samples: int = 64,
    on_done: Callable[[int], None] = lambda tokens: None,
) -> BestOf:
    """Sample every system on the first `questions` questions of every task; `on_done` gets the
    number of tokens of each answer. Raises EngineError if an answer fails."""
    switched = Team(team.candidates, team.engine, RandomSwitcher(), team.policy)
    systems = {RANDOM: switched} | {c.name: team.alone(c.name) for c in team.candidates}

    async def solved(system: Team, task: Task) -> tuple[bool, ...]:
        """Whether any sample solves each question. Every sample gets its own query id."""

        async def ask(task: Task, query: Query, sample: int) -> Trace:
            return await system.agenerate(replace(query, id=f"{query.id}/{sample}"))

        items = requests([task], split, questions, samples)
        made = await score_all(items, ask, 0, UNDER_WAY, lambda trace: on_done(trace.tokens))
        return tuple(any(tries) for tries in by_task(items, made).get(task.name, []))

    return BestOf(
        samples,
        split,
        {
            name: {task.name: await solved(system, task) for task in tasks.values()}
            for name, system in systems.items()
        },
    )
