"""One call of `taketurns analyze`: read the answers, analyse, write sections and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taketurns.errors import DataError
from taketurns.evaluation.analysis import sections
from taketurns.evaluation.analysis.annotation import compare, read_annotations, write_annotations
from taketurns.evaluation.analysis.diagnosis import signs, switcher
from taketurns.evaluation.analysis.effects import by_length, correlations, effects
from taketurns.evaluation.analysis.judge import by_judge
from taketurns.evaluation.analysis.report import write_report
from taketurns.evaluation.analysis.section import Section, write_section
from taketurns.evaluation.analysis.sequences import frequencies
from taketurns.evaluation.analysis.shares import shares
from taketurns.evaluation.analysis.skills import Label, by_rules, of_pocket, skills
from taketurns.evaluation.analysis.turns import Run, Turns, read_run
from taketurns.evaluation.unsolved_coverage import CHANCE, halved, unsolved_coverage
from taketurns.runs.terminal import Progress
from taketurns.utils.extras import REPORT, require
from taketurns.utils.files import entries
from taketurns.utils.locks import waiting
from taketurns.utils.sync import run_sync


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command."""

    run: Path
    out: Path
    method: str | None = None
    judge: str | None = None
    annotate: Path | None = None
    annotations: Path | None = None
    patches: int = 200
    traces: int = 2000


def conduct(request: Request, say: Callable[[str], None]) -> None:
    """Do what is asked. Raises UsageError for what cannot be."""
    require("analyze", *REPORT)
    run = read_run(request.run, request.method)
    if request.annotate is not None:
        count = write_annotations(request.annotate, run.subject, request.patches)
        say(f"{count} patches to label are in {request.annotate}; give it back with --annotations")
        return
    _claim(request.out)
    steps = _steps(run, request)
    report = request.out / "report.html"
    with waiting(report), Progress("analysing", len(steps) + 1) as progress:
        for step in steps:
            write_section(request.out, step())
            progress.advance()
        write_report(request.out, run, request.traces)
        progress.advance()
    say(f"the report is {report}")


def _claim(out: Path) -> None:
    """Raise DataError for a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder for the analysis")
    if out.is_dir() and entries(out) and not (out / "sections").is_dir():
        raise DataError(f"{out} holds other files already; choose another output")
    try:
        (out / "sections").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from error


def _steps(run: Run, request: Request) -> Sequence[Callable[[], Section]]:
    """A section each, cheap ones first."""
    turns = run.subject
    return (
        lambda: sections.of_shares(shares(turns)),
        lambda: sections.of_switcher(switcher(turns)),
        lambda: sections.of_signs(signs(turns, shares(turns))),
        lambda: _skills(turns, request),
        lambda: sections.of_sequences(turns.pool, frequencies(turns)),
        lambda: _effects(run),
        lambda: _beyond(run),
    )


def _effects(run: Run) -> Section:
    turns = run.subject
    return sections.of_effects(
        turns.pool,
        effects(turns),
        effects(turns, stratum=by_length),
        None if run.chance is None else effects(run.chance),
        correlations(turns),
    )


def _beyond(run: Run) -> Section:
    if run.alone is None:
        return sections.of_beyond(None, "the run has no answers of every checkpoint alone")
    subject = run.subject.method
    others = [name for name in (subject, CHANCE) if name in run.scores]
    rounds = halved(run.scores, run.singles, list(dict.fromkeys(others)))
    if not rounds:
        return sections.of_beyond(None, "that takes answers under at least two seeds")
    lacks = "some checkpoint alone solves every question"
    return sections.of_beyond(unsolved_coverage(rounds, subject), lacks)


def _skills(turns: Turns, request: Request) -> Section:
    if request.judge is not None:
        labels, source = _judged(turns, request.judge), f"by the model {request.judge}"
    elif of_pocket(turns):
        labels, source = by_rules(turns), "by the pocket world's rules"
    else:
        return sections.of_skills(None)
    people = None
    if request.annotations is not None:
        people = compare(*read_annotations(request.annotations, turns), labels)
    return sections.of_skills(skills(turns, labels, source), people)


def _judged(turns: Turns, model: str) -> list[Label]:
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.types import ModelSpec

    spec = ModelSpec(model)

    async def ask() -> list[Label]:
        engine = LocalEngine({model: spec})
        try:
            patches = sum(len(answer.patches) for answer in turns.answers)
            with Progress("judging", patches) as progress:
                return await by_judge(turns, engine, model, spec, progress.advance)
        finally:
            await engine.close()

    return run_sync(ask())
