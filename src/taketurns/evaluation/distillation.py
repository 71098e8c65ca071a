"""Student, aligned checkpoint and team on the same questions: what they score and what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import fmean
from typing import Any

from taketurns.config.team_config import EngineConfig
from taketurns.engines.factory import make_engine
from taketurns.errors import DataError, EngineError
from taketurns.evaluation.asking import Item, Record, answer
from taketurns.evaluation.gain_kept import gains
from taketurns.evaluation.intervals import average, share
from taketurns.evaluation.methods.metering import MeteredEngine
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.evaluation.store import records
from taketurns.generation.check.local import parameters
from taketurns.generation.team import SWITCHER, Team
from taketurns.runs.manifest import describe_run, fingerprint
from taketurns.runs.output import claimed, failed
from taketurns.runs.runner import run
from taketurns.runs.terminal import Progress
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.simple import FixedSwitcher
from taketurns.tasks.base import Task
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

Values = dict[str, list[list[float]]]
"""Scores by task, `[question][seed]`."""


async def compare(
    contestants: Contestants, tasks: Sequence[Task], comparing: ComparisonConfig
) -> Mapping[str, Any]:
    """Ask all three what they have not been asked; scores with intervals, gain kept and costs.
    Raises DataError for tasks without questions, EngineError if an answer fails."""
    items = [
        Item(task, query, seed)
        for task in tasks
        for query in task.queries(comparing.split)[: comparing.limit]
        for seed in range(comparing.seeds)
    ]
    if not items:
        raise DataError(f"the tasks have no questions in their {comparing.split} split")
    asked = {
        method: await _ask(contestants, method, items, comparing.concurrency) for method in METHODS
    }
    values = {method: _values(items, found) for method, found in asked.items()}
    sizes = {name: parameters(spec) for name, spec in _specs(contestants).items()}
    costs = {method: _cost(found, sizes) for method, found in asked.items()}
    return {
        "asked": compared_by(comparing),
        "scores": {
            method: {task: share(own).to_json() for task, own in of_tasks.items()}
            | {"average": average(of_tasks).to_json()}
            for method, of_tasks in values.items()
        },
        "gain": gains(values[STUDENT], values[ALIGNED], values[TEAM]).to_json(),
        "cost": costs,
        "cost_ratio": _ratios(costs[STUDENT], costs[TEAM]),
    }


async def _ask(
    contestants: Contestants, method: str, items: Sequence[Item], concurrency: int
) -> list[Record]:
    """One method's answers to the items, in their order."""
    path, config = contestants.answers[method], contestants.team
    described = describe_run("distill", config, b"")
    determined = {key: described.determined[key] for key in ("candidates", "switcher", "policy")}
    if method == STUDENT:
        determined["student"] = fingerprint(contestants.student)
    elif method == ALIGNED:
        determined |= {"switcher": None, "aligned": contestants.aligned}
    manifest = replace(described, determined=determined)
    watch, base = Stopwatch(), config.policy.seed
    names = {
        STUDENT: [STUDENT],
        ALIGNED: [config.candidates[contestants.aligned].name],
        TEAM: [candidate.name for candidate in config.candidates],
    }[method]
    with claimed(path, manifest) as output:
        kept = sum(item.id in output.kept for item in items)
        if kept < len(items):
            async with _writer(contestants, method) as team:

                async def work(item: Item) -> Record:
                    async def ask(task: Task, query: Any, seed: int) -> Any:
                        return await team.agenerate(query, seed=seed)

                    return await answer(ask, item, base + item.seed, names, watch)

                with Progress(f"asking the {method}", len(items), kept) as progress:
                    outcome = await run(
                        items,
                        lambda item: item.id,
                        work,
                        output,
                        concurrency=concurrency,
                        on_done=lambda record: progress.advance(record.get("written", 0)),
                    )
            if outcome.failed:
                raise EngineError(
                    f"{outcome.failed} of {len(items)} answers of the {method} failed, first: "
                    f"{outcome.error}; the same command tries them again"
                )
    found = {record["id"]: dict(record) for record in records(path) if not failed(record)}
    return [found[item.id] for item in items]


@asynccontextmanager
async def _writer(contestants: Contestants, method: str) -> AsyncIterator[Team]:
    """Who answers, on a metered engine of its own with everything loaded."""
    config, specs = contestants.team, _specs(contestants)
    if method == STUDENT:
        # The student is here, wherever the team is served.
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


def _values(items: Sequence[Item], found: Sequence[Record]) -> Values:
    values: dict[str, dict[str, list[float]]] = {}
    for item, record in zip(items, found, strict=True):
        of_task = values.setdefault(item.task.name, {})
        of_task.setdefault(item.query.id, []).append(float(record["score"] or 0.0))
    return {task: list(of_task.values()) for task, of_task in values.items()}


def _cost(found: Sequence[Record], sizes: Mapping[str, int | None]) -> dict[str, float | None]:
    """Of an answer: the tokens that went through a model, each times the parameters it met, and
    its share of the seconds."""
    models = {model for record in found for model in record["by_model"]}
    known = all(sizes.get(model) for model in models)
    return {
        "tokens": round(fmean(record["read"] + record["written"] for record in found), 2),
        "parameters": (
            round(
                fmean(
                    sum(n * (sizes[model] or 0) for model, n in record["by_model"].items())
                    for record in found
                )
            )
            if known
            else None
        ),
        "seconds": round(fmean(record["seconds"] for record in found), 6),
    }


def _ratios(
    first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> dict[str, float]:
    """What the first costs of the second, where both are known."""
    pairs = ((what, cost, second[what]) for what, cost in first.items())
    return {what: round(cost / other, 4) for what, cost, other in pairs if cost and other}
