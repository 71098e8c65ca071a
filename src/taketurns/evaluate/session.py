"""One call of `taketurns evaluate`: what was asked for, the answers, and the report of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from taketurns.baselines.trained import Trained, beside, find
from taketurns.clocks import Clock
from taketurns.config import TeamConfig
from taketurns.errors import UsageError
from taketurns.evaluate.run import Evaluation, Plan
from taketurns.evaluate.store import Store, write_json
from taketurns.evaluate.tasks import load
from taketurns.evaluate.workers import helpers, helping
from taketurns.terminal import Progress

NEEDED = ("matplotlib", "scipy", "statsmodels")


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command; None for what is left to it."""

    tasks: tuple[str, ...] | None
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

    def arguments(self) -> list[str]:
        """The options that make another process ask the same."""
        found = ["--seeds", str(self.seeds), "--dev-limit", str(self.dev_limit)]
        found += ["--concurrency", str(self.concurrency), "--clock", self.clock]
        for option, words in (("--tasks", self.tasks), ("--methods", self.methods)):
            found += [option, ",".join(words)] if words is not None else []
        for text in self.switchers:
            found += ["--switcher", text]
        found += ["--data", str(self.data)] if self.data is not None else []
        return found + (["--limit", str(self.limit)] if self.limit is not None else [])


async def conduct(
    config: TeamConfig,
    request: Request,
    out: Path,
    say: Callable[[str], None],
    arguments: Sequence[str] = (),
) -> int:
    """Ask what is missing in `out` and write the report; how many answers failed. `arguments` name
    the same team and folder to another process."""
    _check_installed()
    from taketurns.evaluate.findings import choose_subject, findings
    from taketurns.evaluate.report import write_report
    from taketurns.evaluate.results import read_results

    tasks = load(request.tasks, request.data)
    trained = _trained(config, request, list(tasks))
    plan = Plan(
        tasks,
        request.methods,
        request.seeds,
        request.limit,
        request.dev_limit,
        request.concurrency,
        request.helping,
        request.clock,
    )
    store = Store(out, config)
    async with Evaluation(config, plan, store, trained, say) as evaluation:
        if request.helping:
            async with helping():
                return await evaluation.run()
        await evaluation.check()
        entries = evaluation.entries
        subject = choose_subject(entries, request.subject)
        with helpers(request.workers - 1, [*arguments, *request.arguments()]):
            failures = await evaluation.run()
    measured = read_results(store, entries, tasks, plan.items())
    with Progress("comparing", len(measured) - 1) as progress:
        categories = {name: task.category for name, task in tasks.items()}
        found = findings(measured, categories, subject, progress.advance)
    write_json(out / "results.json", found)
    write_report(found, out)
    say(f"the report is {out / 'report.html'}")
    return failures


def _check_installed() -> None:
    """Raise UsageError where the comparison could not be made in the end."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"comparing methods needs {', '.join(missing)}: pip install 'taketurns[eval]'"
        )


def _trained(config: TeamConfig, request: Request, tasks: list[str]) -> dict[str, Trained]:
    found = beside(config, tasks)
    for text in request.switchers:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"a switcher is written NAME=DIR, not {text!r}")
        found[name] = find(Path(folder), tasks)
    return found
