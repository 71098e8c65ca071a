"""One call of `taketurns analyze`: read the answers, analyse them, write sections and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taketurns.evaluation.analysis.annotation import (
    rater_agreement,
    read_annotations,
    write_annotations,
)
from taketurns.evaluation.analysis.answers import AnalysisInput, MethodAnswers, read_answers
from taketurns.evaluation.analysis.diagnosis import failure_signs, switcher_stats
from taketurns.evaluation.analysis.effects import sequence_effects
from taketurns.evaluation.analysis.judge import label_by_judge
from taketurns.evaluation.analysis.report import write_report
from taketurns.evaluation.analysis.sections.coverage import render_coverage
from taketurns.evaluation.analysis.sections.diagnosis import render_failure_signs, render_switcher
from taketurns.evaluation.analysis.sections.effects import render_effects
from taketurns.evaluation.analysis.sections.sequences import render_sequences
from taketurns.evaluation.analysis.sections.shares import render_shares
from taketurns.evaluation.analysis.sections.skills import render_skills
from taketurns.evaluation.analysis.sequences import sequence_frequencies
from taketurns.evaluation.analysis.shares import speaker_shares
from taketurns.evaluation.analysis.skills import SkillLabel, label_by_rules, skill_association
from taketurns.evaluation.report.section import Section, write_section
from taketurns.evaluation.unsolved_coverage import CHANCE, halved, unsolved_coverage
from taketurns.runs.folder import claim_folder
from taketurns.runs.progress import Progress
from taketurns.utils.extras import REPORT, require
from taketurns.utils.locks import lock_when_free
from taketurns.utils.sync import run_sync


@dataclass(frozen=True, slots=True)
class AnalysisJob:
    """The options of the command."""

    run: Path
    out: Path
    method: str | None = None
    judge: str | None = None
    annotate: Path | None = None
    annotations: Path | None = None
    patches: int = 200
    traces: int = 2000


def run_analysis(job: AnalysisJob, say: Callable[[str], None]) -> None:
    """Analyse the answers and write the report, or write the table to annotate."""
    require("analyze", *REPORT)
    inputs = read_answers(job.run, job.method)
    if job.annotate is not None:
        count = write_annotations(job.annotate, inputs.subject, job.patches)
        say(
            f"wrote {count} patches to label to {job.annotate}: fill in the column skill, then use "
            "--annotations"
        )
        return
    claim_folder(job.out, "the analysis", {"sections"}, ("sections",))
    steps = _steps(inputs, job)
    report = job.out / "report.html"
    with lock_when_free(report), Progress("analysing", len(steps) + 1) as progress:
        for step in steps:
            write_section(job.out, step())
            progress.advance()
        write_report(job.out, inputs, job.traces)
        progress.advance()
    say(f"wrote the report {report}")


def _steps(inputs: AnalysisInput, job: AnalysisJob) -> Sequence[Callable[[], Section]]:
    """The functions that make the sections, cheap ones first."""
    subject = inputs.subject
    return (
        lambda: render_shares(speaker_shares(subject)),
        lambda: render_switcher(switcher_stats(subject)),
        lambda: render_failure_signs(failure_signs(subject, speaker_shares(subject))),
        lambda: _skills(subject, job),
        lambda: render_sequences(subject.pool, sequence_frequencies(subject)),
        lambda: render_effects(sequence_effects(inputs)),
        lambda: _coverage(inputs),
    )


def _coverage(inputs: AnalysisInput) -> Section:
    if inputs.solved_alone is None:
        return render_coverage(None, "the run lacks answers of some checkpoint alone")
    subject = inputs.subject.method
    others = [name for name in (subject, CHANCE) if name in inputs.scores]
    rounds = halved(inputs.scores, inputs.singles, list(dict.fromkeys(others)))
    if not rounds:
        return render_coverage(None, "it needs answers with at least two seeds")
    lacks = "every question is solved by some checkpoint alone"
    return render_coverage(unsolved_coverage(rounds, subject), lacks)


def _skills(subject: MethodAnswers, job: AnalysisJob) -> Section:
    if job.judge is not None:
        labels, source = _judged(subject, job.judge), f"by the model {job.judge}"
    elif (by_rules := label_by_rules(subject)) is not None:
        labels, source = by_rules, "by the rules of the tasks"
    else:
        return render_skills(None)
    people = None
    if job.annotations is not None:
        people = rater_agreement(*read_annotations(job.annotations, subject), labels)
    return render_skills(skill_association(subject, labels, source), people)


def _judged(subject: MethodAnswers, model: str) -> list[SkillLabel]:
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.types import ModelSpec

    spec = ModelSpec(model)

    async def ask() -> list[SkillLabel]:
        engine = LocalEngine({model: spec})
        try:
            patches = sum(len(answer.patches) for answer in subject.answers)
            with Progress("judging", patches) as progress:
                return await label_by_judge(subject, engine, model, spec, progress.advance)
        finally:
            await engine.close()

    return run_sync(ask())
