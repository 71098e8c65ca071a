"""One distillation: from a team to a student with its card, team file and measured gain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import TeamConfig
from taketurns.errors import EngineError
from taketurns.runs.description import fingerprint
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, sample_questions
from taketurns.tasks.base import Task
from taketurns.training.card import write_card
from taketurns.training.distillation.comparison import Compare, Contestants, compared_by
from taketurns.training.distillation.filtering import FilteredAnswers, filter_answers
from taketurns.training.distillation.folder import DistillationFolder
from taketurns.training.distillation.rows import Readers, StudentRow, make_rows, read_models, split
from taketurns.training.distillation.sampling import (
    read_answers,
    sample,
    sample_requests,
    sampling_manifest,
)
from taketurns.training.distillation.settings import (
    ComparisonConfig,
    FilterConfig,
    SamplingConfig,
    StudentConfig,
)
from taketurns.training.distillation.student import Student, find_student
from taketurns.training.distillation.summary import gain_lines, score_lines
from taketurns.training.distillation.team import write_team
from taketurns.training.epochs import Log, export
from taketurns.training.fine_tuning import Defaults, fine_tune, rehearse
from taketurns.types import ModelSpec

if TYPE_CHECKING:
    from taketurns.training.distillation.targets import Targets

DEFAULTS = Defaults(lora_epochs=3, full_epochs=3, full_weight_decay=0.0)


@dataclass(frozen=True, slots=True)
class DistillJob:
    """The team and the tasks to distil, and the settings. `aligned` names the candidate that the
    student replaces (None: the last). `shared` is a folder for the answers of the team and of
    `aligned`, so that several students are trained on and compared with the same answers (None: the
    output)."""

    team: TeamConfig
    tasks: Sequence[Task]
    sampling: SamplingConfig
    filtering: FilterConfig
    student: StudentConfig
    comparison: ComparisonConfig
    aligned: str | None = None
    shared: Path | None = None


@dataclass(frozen=True, slots=True)
class _Distillation:
    """A job with its student, tokenizers and output folder; `say` receives messages for the
    user."""

    job: DistillJob
    student: Student
    readers: Readers
    folder: DistillationFolder
    say: Callable[[str], None]


def distill(
    job: DistillJob,
    output: Path,
    compare: Compare,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Distil a team into `output` and return the metrics. `compare` compares the student with the
    team.

    A killed run continues, with the same result; a finished run is only compared on questions that
    it has not answered yet. `say` receives messages for the user. Raises ConfigError for a student
    of another architecture than every candidate's, and for different vocabularies with a loss that
    needs a common one; DataError if no answer is kept, and for an output of another run;
    EngineError if answers fail.
    """
    student = find_student(job.team, job.student.student, job.aligned)
    readers = asyncio.run(read_models(job.team, student.start, student.name))
    if job.student.loss != "sft":
        readers.one_vocabulary()
    folder = DistillationFolder(output, _manifest(job, student), job.shared)
    with folder.open():
        return _distill(_Distillation(job, student, readers, folder, say), compare)


def _distill(run: _Distillation, compare: Compare) -> Mapping[str, Any]:
    """Train and compare the student, and write the files of the folder."""
    job, student, folder = run.job, run.student, run.folder
    done = folder.metrics
    if done is not None and done["comparison"]["asked"] == compared_by(job.comparison):
        run.say(f"{folder.path} is finished; nothing to do")
        return done
    began = time.monotonic()
    learned = done or _learn(run)
    spec = _tuned(student, folder, lora=learned["student"]["lora"])
    contestants = Contestants(job.team, student.aligned, spec, folder.compared())
    comparison = asyncio.run(compare(contestants, job.tasks, job.comparison))
    metrics = {**learned, "comparison": comparison}
    if done is None:
        metrics["seconds"] = round(time.monotonic() - began, 1)
    _write_card(student, folder, metrics)
    write_team(job.team, student, spec, folder.path, run.say)
    folder.finish(metrics)
    return metrics


def _manifest(job: DistillJob, student: Student) -> Manifest:
    """The inputs that decide the student's weights."""
    settings = {"asking": asdict(job.sampling), "learning": asdict(job.student)}
    settings["asking"].pop("concurrency")
    for name in ("report_to", "student"):
        settings["learning"].pop(name)
    return sampling_manifest(job.team, job.tasks).with_inputs(
        **settings,
        keeping=asdict(job.filtering),
        start=fingerprint(student.start) or student.start.model,
        aligned=student.aligned,
    )


def _learn(run: _Distillation) -> dict[str, Any]:
    """Sample and filter answers and train the student; the metrics so far."""
    from taketurns.training.distillation.objective import SpeakerImitation

    job, student, folder, config = run.job, run.student, run.folder, run.job.student
    rehearse(student.start, folder.work, config, DEFAULTS)
    if failures := asyncio.run(sample(job.team, job.tasks, job.sampling, folder.answers)):
        raise EngineError(failures.sentence("answers failed"))
    asked = sample_requests(job.tasks, job.sampling)
    kept = filter_answers(read_answers(folder.answers, asked), job.tasks, job.filtering)
    folder.write_kept(kept.answers)
    rows, too_long = make_rows(kept.answers, run.readers)
    if too_long:
        run.say(
            f"{too_long} of {len(kept.answers)} answers are left out: with their questions they do "
            f"not fit the context of {student.name}"
        )
    train, held_out = split(rows, config.held_out, config.seed)
    run.say(_summary(kept, train, held_out))
    targets = _targets(run, kept, [*train, *held_out])
    objective = SpeakerImitation(train, held_out, targets, config.loss, config.temperature)
    plan, log = fine_tune(student.start, objective, folder.work, config, DEFAULTS)
    export(folder.work, log, objective.best_by, folder.student)
    settings = asdict(config)
    settings.pop("report_to")
    place = job.team.candidates[student.aligned].name
    return {
        "student": {**settings, **asdict(plan), "student": student.name, "in_place_of": place},
        "answers": {**asdict(job.filtering), **kept.report, "too_long": too_long},
        SAMPLE: sample_questions((x.task.name, x.query) for x in asked),
        "rows": len(train),
        "tokens": sum(row.learned for row in train),
        "history": _history(log),
    }


def _targets(
    run: _Distillation, kept: FilteredAnswers, rows: Sequence[StudentRow]
) -> Targets | None:
    """The speakers' distributions, if the loss needs them."""
    config = run.job.student
    if config.loss == "sft":
        return None
    from taketurns.checkpoints.model_config import read_config
    from taketurns.training.distillation.targets import read_targets

    vocabulary = read_config(run.student.start).get_text_config().vocab_size
    by_id = {answer.id: answer for answer in kept.answers}
    with Progress("reading distributions", len(rows)) as progress:
        return read_targets(
            rows,
            [by_id[row.id] for row in rows],
            run.readers,
            vocabulary,
            config.temperature,
            config.top,
            run.folder.work,
            progress.advance,
        )


def _history(log: Log) -> list[Mapping[str, float]]:
    """One record per epoch: the training loss, and the loss on held-out questions if there are
    any."""
    losses = [entry["loss"] for entry in log if "loss" in entry]
    held_out = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return [
        {"loss": loss, **({"held_out": held_out[i]} if i < len(held_out) else {})}
        for i, loss in enumerate(losses)
    ]


def _write_card(student: Student, folder: DistillationFolder, metrics: Mapping[str, Any]) -> None:
    made, start = metrics["student"], student.start.model
    compared, place = metrics["comparison"], made["in_place_of"]
    write_card(
        folder.student,
        "student",
        metrics,
        {
            "tags": ["taketurns", "switch-generation", "distillation"],
            "library_name": "peft" if made["lora"] else "transformers",
        },
        None if Path(start).exists() else start,
        gain=gain_lines(compared, place),
        scores=score_lines(compared, place),
    )


def _tuned(student: Student, folder: DistillationFolder, *, lora: bool) -> ModelSpec:
    """How the student is loaded: from its folder, or as an adapter on its start."""
    where = str(folder.student.resolve())
    if lora:
        return replace(student.start, adapter=where)
    return student.start.with_model(where)


def _summary(
    kept: FilteredAnswers, train: Sequence[StudentRow], held_out: Sequence[StudentRow]
) -> str:
    """A line of text about the kept answers."""
    report = kept.report
    return (
        f"{report['kept']} of {report['answers']} answers, to {report['questions']} questions, are "
        f"kept: {len(train)} for training, {len(held_out)} for measuring the loss"
    )
