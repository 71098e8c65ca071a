"""One call of `taketurns evaluate`: the request, the answers, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from taketurns.config.team_config import TeamConfig
from taketurns.evaluation.distributed import EvaluationWorker, ask_on_ray
from taketurns.evaluation.methods.trained import TrainedSwitchers, beside, find, parse_switcher
from taketurns.evaluation.run import Evaluation, EvaluationJob
from taketurns.evaluation.stopwatch import Clock
from taketurns.evaluation.store import SCHEMA, Store
from taketurns.evaluation.tasks import load
from taketurns.evaluation.workers import helpers, helping
from taketurns.runs.progress import Progress
from taketurns.runs.runner import Failures
from taketurns.runs.shards import RaySettings, require_ray
from taketurns.utils.extras import REPORT, require
from taketurns.utils.json_files import write_json
from taketurns.utils.locks import lock_async


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The options of the command; None for an option that the command decides. Pocket tasks are
    those of `world`, which helping processes find in the same way."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...] | None
    switchers: tuple[str, ...]
    seeds: int
    limit: int | None
    dev_limit: int
    subject: str | None
    concurrency: int
    workers: int = 1
    helping: bool = False
    data: Path | None = None
    clock: Clock = "wall"
    ray: RaySettings | None = None
    world: int = 0

    def arguments(self) -> list[str]:
        """The options with which another process asks the same questions."""
        arguments = ["--seeds", str(self.seeds), "--dev-limit", str(self.dev_limit)]
        arguments += ["--concurrency", str(self.concurrency), "--clock", self.clock]
        arguments += ["--methods", ",".join(self.methods)] if self.methods is not None else []
        for option, values in (("--task", self.tasks), ("--switcher", self.switchers)):
            arguments += [f"{option}={text}" for text in values]
        arguments += ["--data", str(self.data)] if self.data is not None else []
        return arguments + (["--limit", str(self.limit)] if self.limit is not None else [])


async def conduct(
    config: TeamConfig,
    request: EvaluationRequest,
    out: Path,
    say: Callable[[str], None],
    arguments: Sequence[str] = (),
) -> Failures:
    """Ask what is missing in `out` and write the report; return the answers that failed.
    `arguments` name the same team and folder to helping processes."""
    require("comparing methods", *REPORT)
    from taketurns.evaluation.findings import choose_subject, findings
    from taketurns.evaluation.report import write_report
    from taketurns.evaluation.results import read_results

    if request.ray is not None:
        require_ray()
    job = _job(request)
    tasks = job.tasks
    store = Store(out, config, tasks.values())
    trained = _trained(config, request, list(tasks))
    async with Evaluation(config, job, store, trained, say) as evaluation:
        if request.helping:
            async with helping():
                return await evaluation.run()
        await evaluation.check()
        entries = evaluation.entries
        subject = choose_subject(entries, request.subject)
        if request.ray is not None:
            make = partial(_asking, config, request, trained, out.absolute())
            failures = await ask_on_ray(evaluation, store, job.items(), make, request.ray)
        else:
            with helpers(request.workers - 1, [*arguments, *request.arguments()]):
                failures = await evaluation.run()
    workers = request.workers if request.ray is None else request.ray.actors
    asked: dict[str, list[str]] = {name: [] for name in tasks}
    for item in job.items():
        if item.seed == 0:
            asked[item.task.name].append(item.question)
    # One process at a time writes results and report, so that both come from the same answers.
    async with lock_async(out / "results.json", wait=True):
        measured = read_results(store, entries, tasks, job.items(), evaluation.checked)
        with Progress("comparing", len(measured) - 1) as progress:
            categories = {name: task.category for name, task in tasks.items()}
            report = findings(measured, categories, subject, progress.advance)
        report["settings"] = {**store.about(), **job.settings(), "workers": workers}
        write_json(out / "results.json", {"schema": SCHEMA, **report, "asked": asked})
        write_report(report, out)
    say(f"wrote the report {out / 'report.html'}")
    return failures


def _asking(
    config: TeamConfig,
    request: EvaluationRequest,
    trained: Mapping[str, TrainedSwitchers],
    out: Path,
) -> EvaluationWorker:
    """The same evaluation in a Ray actor."""
    job = _job(replace(request, helping=True))
    store = Store(out, config, job.tasks.values())
    evaluation = Evaluation(config, job, store, trained, lambda sentence: None)
    return EvaluationWorker(evaluation, job.items(), job.concurrency)


def _job(request: EvaluationRequest) -> EvaluationJob:
    return EvaluationJob(
        load(request.tasks, request.data, request.world),
        request.methods,
        request.seeds,
        request.limit,
        request.dev_limit,
        request.concurrency,
        request.helping,
        request.clock,
    )


def _trained(
    config: TeamConfig, request: EvaluationRequest, tasks: list[str]
) -> dict[str, TrainedSwitchers]:
    switchers = beside(config, tasks)
    for text in request.switchers:
        name, folder = parse_switcher(text)
        switchers[name] = find(folder.absolute(), tasks)
    return switchers
