"""Student, aligned checkpoint and team on the same questions: scores, share of the gain kept, cost.

The gain of a method is its score minus that of the aligned checkpoint; the share kept is the
student's gain divided by the team's. The unit is the question, as in `evaluation/statistics.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import EngineConfig
from taketurns.engines.factory import make_engine
from taketurns.errors import DataError, EngineError
from taketurns.evaluation.asking import AnswerRequest, by_task, recorded, requests
from taketurns.evaluation.bootstrap import BootstrapEstimate, draw_counts, percentile_interval
from taketurns.evaluation.methods.base import answers_of
from taketurns.evaluation.methods.metering import MeteredEngine
from taketurns.evaluation.statistics import RESAMPLES, SeedScores, average, share
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.evaluation.store import TEAM_INPUTS, whole_records
from taketurns.generation.check.weights import parameters
from taketurns.generation.team import SWITCHER, Team
from taketurns.runs.description import describe_run, fingerprint
from taketurns.runs.output import open_run
from taketurns.runs.records import Record
from taketurns.runs.runner import run
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training.distillation.comparison import (
    ALIGNED,
    METHODS,
    STUDENT,
    TEAM,
    Contestants,
    compared_by,
)
from taketurns.training.distillation.settings import ComparisonConfig
from taketurns.types import Candidate, ModelSpec
from taketurns.utils.seeds import generator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


async def compare(
    contestants: Contestants, tasks: Sequence[Task], comparing: ComparisonConfig
) -> Mapping[str, Any]:
    """Ask all three the questions that they have not answered; return scores with intervals, the
    share of the gain kept, and costs. Raises DataError for tasks without questions, EngineError if
    an answer fails."""
    items = requests(tasks, comparing.split, comparing.limit, comparing.seeds)
    if not items:
        names = ", ".join(task.name for task in tasks)
        raise DataError(
            f"the tasks ({names}) have no questions in their {comparing.split} split: name a task "
            "with --task that has some"
        )
    asked = {
        method: await _ask(contestants, method, items, comparing.concurrency) for method in METHODS
    }
    values = {
        method: by_task(items, (float(record["score"] or 0.0) for record in answers))
        for method, answers in asked.items()
    }
    sizes = {name: parameters(spec) for name, spec in _specs(contestants).items()}
    costs = {method: _cost(answers, sizes) for method, answers in asked.items()}
    return {
        "asked": compared_by(comparing),
        "scores": {
            method: {task: share(scores).to_json() for task, scores in of_tasks.items()}
            | {"average": average(of_tasks).to_json()}
            for method, of_tasks in values.items()
        },
        "gain": gains(values[STUDENT], values[ALIGNED], values[TEAM]).to_json(),
        "cost": costs,
        "cost_ratio": _ratios(costs[STUDENT], costs[TEAM]),
    }


async def _ask(
    contestants: Contestants, method: str, items: Sequence[AnswerRequest], concurrency: int
) -> list[Record]:
    """One method's answers to the items, in their order."""
    parts = own_parts({item.task.name: item.task for item in items}.values(), by_version=True)
    path, config = contestants.answers[method], contestants.team
    manifest = describe_run("distill", config, b"")
    manifest = manifest.with_inputs_of(*TEAM_INPUTS).with_inputs(**parts)
    if method == STUDENT:
        manifest = manifest.with_inputs(student=fingerprint(contestants.student))
    elif method == ALIGNED:
        manifest = manifest.with_inputs(switcher=None, aligned=contestants.aligned)
    names = {
        STUDENT: [STUDENT],
        ALIGNED: [config.candidates[contestants.aligned].name],
        TEAM: [candidate.name for candidate in config.candidates],
    }[method]
    with open_run(path, manifest) as output:
        if output.missing(items):
            async with _writer(contestants, method) as team:
                failures = await run(
                    items,
                    recorded(answers_of(team), names, Stopwatch(), config.policy.seed),
                    output,
                    concurrency=concurrency,
                    label=f"asking the {method}",
                    token_key="written",
                )
            if failures:
                asked = f"of {len(items)} answers of the {method} failed"
                raise EngineError(failures.sentence(asked))
    by_id = {record["id"]: record for record in whole_records(path)}
    return [by_id[item.id] for item in items]


@asynccontextmanager
async def _writer(contestants: Contestants, method: str) -> AsyncIterator[Team]:
    """The team that answers, on its own metered engine, with all models loaded."""
    config, specs = contestants.team, _specs(contestants)
    if method == STUDENT:
        # The student runs on this machine, also if the team is served elsewhere.
        settings = config.engine if config.engine.kind == "local" else EngineConfig()
        alone = [Candidate(STUDENT, specs[STUDENT])]
        engine = MeteredEngine(make_engine(alone, settings))
        team = Team(alone, engine, FixedSwitcher([0]), config.policy).alone(STUDENT)
    else:
        more = []
        if config.switcher.spec is not None:
            more.append(Candidate(SWITCHER, config.switcher.spec, config.switcher.endpoint))
        if config.judge is not None and config.judge not in config.candidates:
            more.append(config.judge)
        engine = MeteredEngine(make_engine([*config.candidates, *more], config.engine))
        switcher = make_switcher(config.switcher, SWITCHER)
        team = Team(config.candidates, engine, switcher, config.policy, config.judge)
        if method == ALIGNED:
            team = team.alone(config.candidates[contestants.aligned].name)
    try:
        await team.prepare()
        yield team
    finally:
        await engine.close()


def _specs(contestants: Contestants) -> dict[str, ModelSpec]:
    """Every model by its name in the engines."""
    specs = {candidate.name: candidate.spec for candidate in contestants.team.candidates}
    if contestants.team.switcher.spec is not None:
        specs[SWITCHER] = contestants.team.switcher.spec
    if contestants.team.judge is not None:
        specs[contestants.team.judge.name] = contestants.team.judge.spec
    return {**specs, STUDENT: contestants.student}


def _cost(answers: Sequence[Record], sizes: Mapping[str, int | None]) -> dict[str, float | None]:
    """Means per answer: the tokens that went through a model, the same times the parameters of
    that model (None if unknown), and the answer's share of the seconds."""
    models = {model for record in answers for model in record["by_model"]}
    known = all(sizes.get(model) for model in models)
    return {
        "tokens": round(fmean(record["read"] + record["written"] for record in answers), 2),
        "parameters": (
            round(
                fmean(
                    sum(n * (sizes[model] or 0) for model, n in record["by_model"].items())
                    for record in answers
                )
            )
            if known
            else None
        ),
        "seconds": round(fmean(record["seconds"] for record in answers), 6),
    }


def _ratios(
    first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> dict[str, float]:
    """The first costs divided by the second, where both are known."""
    pairs = ((what, cost, second[what]) for what, cost in first.items())
    return {what: round(cost / other, 4) for what, cost, other in pairs if cost and other}


@dataclass(frozen=True, slots=True)
class Gains:
    """The gains over the aligned checkpoint, and the share of the team's gain that the student
    keeps: None if the interval of the team's gain reaches 0, since a share of 0 has no meaning."""

    student: BootstrapEstimate
    team: BootstrapEstimate
    kept: BootstrapEstimate | None

    def to_json(self) -> dict[str, Any]:
        return {
            "student": self.student.to_json(),
            "team": self.team.to_json(),
            "kept": None if self.kept is None else self.kept.to_json(),
        }


def gains(
    student: Mapping[str, SeedScores],
    aligned: Mapping[str, SeedScores],
    team: Mapping[str, SeedScores],
    *,
    seed: int = 0,
) -> Gains:
    """The gains with percentile bootstrap intervals: questions are resampled within their tasks,
    the same ones for all three, and each figure is computed anew for every resample. Scores are
    `[question][seed]` by task. Raises ValueError for different tasks or questions."""
    import numpy as np

    if not (list(student) == list(aligned) == list(team)) or not student:
        raise ValueError(
            "student, aligned and team must have scores of the same tasks in the same order: they "
            f"have {', '.join(student)}; {', '.join(aligned)}; {', '.join(team)}"
        )
    tables = [
        np.array([[fmean(a), fmean(b), fmean(c)] for a, b, c in zip(*three, strict=True)])
        for three in zip(student.values(), aligned.values(), team.values(), strict=True)
    ]
    draws = generator(seed)
    resampled = np.mean(
        [draw_counts(len(table), RESAMPLES, draws) @ table / len(table) for table in tables], axis=0
    )
    exact = np.mean([table.mean(axis=0) for table in tables], axis=0)

    def figure(value: Any, resamples: NDArray[np.float64]) -> BootstrapEstimate:
        low, high = percentile_interval(resamples)
        return BootstrapEstimate(float(value), float(low), float(high))

    of_student, of_team = (resampled[:, column] - resampled[:, 1] for column in (0, 2))
    mine = figure(exact[0] - exact[1], of_student)
    whole = figure(exact[2] - exact[1], of_team)
    if whole.low is None or whole.low <= 0:
        return Gains(mine, whole, None)
    kept = of_student[of_team > 0] / of_team[of_team > 0]
    return Gains(mine, whole, figure(mine.value / whole.value, kept))
