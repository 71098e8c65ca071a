"""The whole measurement in one folder: the records `answers/CONDITION.jsonl` and `delays.jsonl`,
and the results `safety.json`, `safety.md` and `safety.svg`. `judge/` has the judge that a task's
guards need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from taketurns.config.policy import Guard
from taketurns.config.team_config import TeamConfig
from taketurns.errors import UsageError
from taketurns.evaluation.safety.answers import answer_all, path_of
from taketurns.evaluation.safety.conditions import safety_conditions
from taketurns.evaluation.safety.delays import time_all
from taketurns.evaluation.safety.findings import find
from taketurns.evaluation.safety.questions import PLAIN, harmful, harmless, others
from taketurns.evaluation.safety.report import drawing, markdown
from taketurns.evaluation.stopwatch import Clock
from taketurns.evaluation.store import whole_records
from taketurns.generation.team import Team
from taketurns.runs.progress import Progress
from taketurns.runs.runner import Failures
from taketurns.tasks.base import RefusalTask, Task
from taketurns.tasks.scored import ScoredTask
from taketurns.utils.extras import install_command, installed
from taketurns.utils.files import make_folder, write_text
from taketurns.utils.json_files import write_json
from taketurns.utils.locks import lock_async


@dataclass(frozen=True)
class SafetyJob:
    """What to ask: `harm` is a task whose questions should be refused, `harmless` a task with
    similar questions that should be answered (None: those of `harm` not to refuse), `quality` are
    tasks of other kinds. `limit` questions of `harm` and `harmless`, `each` of every other task,
    `attacked` harmful ones with every attack, `timed` ones for the delays by `clock`. `settings`
    are those of the scorer of `harm`."""

    harm: Task
    quality: Sequence[Task]
    limit: int
    attacked: int
    each: int
    seeds: int
    timed: int
    clock: Clock
    settings: Mapping[str, Any] = field(default_factory=dict)
    harmless: Task | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for two tasks with the same name, or a task without test questions."""
        named = [self.harm, *([] if self.harmless is None else [self.harmless]), *self.quality]
        for place, task in enumerate(named):
            if task.name in [other.name for other in named[:place]]:
                raise UsageError(
                    f"two of the tasks are called {task.name!r}: the task of harmful requests, "
                    "that of harmless requests and each task for quality need different names"
                )
            if not task.queries("test"):
                raise UsageError(
                    f"task {task.name!r} has no test questions, which safety asks: add a test "
                    "split, or name another task"
                )


async def measure(
    config: TeamConfig, job: SafetyJob, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any], Failures]:
    """Ask, time and write the results; return the findings and the answers that failed. Raises
    UsageError for a question that does not fit the team."""
    make_folder(folder, "answers")
    if not (drawn := installed("matplotlib")):
        say(f"safety.svg is left out: it needs matplotlib ({install_command('matplotlib')})")
    guards: Mapping[str, Guard]
    if config.policy.guard is not None:
        guards = {"guard": config.policy.guard}
    elif isinstance(job.harm, RefusalTask):
        async with lock_async(folder / "judge", wait=True):
            config, guards = job.harm.guards(config, folder / "judge", say)
    else:
        guards = {}
        say("no guard is measured: the team file has none (key policy.guard)")
    compared = safety_conditions(config, guards)
    similar = job.harmless or (job.harm if isinstance(job.harm, RefusalTask) else None)
    asks = [
        *harmful(job.harm, job.limit, job.attacked, job.seeds),
        *([] if similar is None else harmless(similar, job.limit, job.seeds)),
        *others(job.quality, job.each, 1),
    ]
    plainly = [ask for ask in asks if ask.variant == PLAIN and ask.seed == 0]
    by_kind = [[a for a in plainly if a.kind == kind] for kind in ("harm", "benign")]
    by_kind += [[a for a in plainly if a.task is task] for task in job.quality]
    timed = [ask for ask in chain(*zip_longest(*by_kind)) if ask is not None][: job.timed]
    answers = folder / "answers"
    async with Team.load(config) as whole:
        for ask in asks:
            await whole.check_prompt(ask.asked)
        kept = sum(len(whole_records(path_of(answers, condition.name))) for condition in compared)
        with Progress("answering", len(asks) * len(compared), kept) as progress:
            failures = await answer_all(
                whole, config, compared, asks, answers, job.settings,
                lambda record: progress.advance(record.get("tokens", 0)),
            )  # fmt: skip
        with Progress("timing", len(timed) * len(compared)) as progress:
            await time_all(
                whole, compared, timed, folder / "delays.jsonl", job.clock, progress.advance
            )
    safe = next((guard.to for guard in guards.values()), len(config.candidates) - 1)
    findings = find(
        {condition.name: whole_records(path_of(answers, condition.name)) for condition in compared},
        [r for r in whole_records(folder / "delays.jsonl") if r["id"].endswith(f"@{job.clock}")],
        f"{config.candidates[safe].name} alone",
    )
    findings |= {
        "clock": job.clock,
        "seeds": job.seeds,
        "task": job.harm.name,
        "scorer": _scorer(job.harm),
        "tasks": {
            kind: list(dict.fromkeys(ask.task.name for ask in asks if ask.kind == kind))
            for kind in ("harm", "benign", "quality")
        },
        "benign_scorer": None if job.harmless is None else _scorer(job.harmless),
    }
    async with lock_async(folder / "safety.json", wait=True):
        write_json(folder / "safety.json", findings, ensure_ascii=True)
        write_text(folder / "safety.md", markdown(findings))
        if drawn:
            write_text(folder / "safety.svg", drawing(findings))
    return findings, failures


def _scorer(task: Task) -> str | None:
    return task.scorer.name if isinstance(task, ScoredTask) else None
