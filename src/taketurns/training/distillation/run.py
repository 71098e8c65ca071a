"""One distillation: a team in, a student, its card, its team file and its gain out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import spec_entry, team_yaml
from taketurns.errors import EngineError
from taketurns.runs.description import fingerprint
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, sample_questions
from taketurns.switchers.head import load_config
from taketurns.tasks.base import Task
from taketurns.training.distillation.card import write_card
from taketurns.training.distillation.comparison import Compare, Contestants, compared_by
from taketurns.training.distillation.filtering import Kept, keep
from taketurns.training.distillation.folder import DistillationFolder
from taketurns.training.distillation.rows import Readers, Row, make_rows, read_models, split
from taketurns.training.distillation.sampling import read_answers, sample, sampling_manifest, wanted
from taketurns.training.distillation.settings import Asking, Comparing, Keeping, Learning
from taketurns.training.distillation.student import Student, find_student
from taketurns.types import ModelSpec
from taketurns.utils.files import write_text

if TYPE_CHECKING:
    from taketurns.training.distillation.targets import Targets

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DistillJob:
    """What is distilled: the team on these tasks, and how. `aligned` names the candidate whose
    place the student takes (None: the last); `shared` is a folder for the answers of these two, so
    that several students learn from the same and stand beside the same (None: the output)."""

    team: TeamConfig
    tasks: Sequence[Task]
    asking: Asking
    keeping: Keeping
    learning: Learning
    comparing: Comparing
    aligned: str | None = None
    shared: Path | None = None


def distill(
    order: DistillJob, output: Path, compare: Compare, say: Say = lambda sentence: None
) -> Mapping[str, Any]:
    """Distil a team into `output`; what was measured. `compare` measures the student beside
    the team.

    A run that was killed goes on where it was, with the same result; one that is finished is only
    asked what it has not been asked. `say` hears what a person should know. Raises ConfigError for
    a student that no team member is like and for vocabularies that differ, DataError where no
    answer is kept and for an output that holds another run, EngineError where answers fail.
    """
    student = find_student(order.team, order.learning.student, order.aligned)
    readers = asyncio.run(read_models(order.team, student.start, student.name))
    if order.learning.loss != "sft":
        readers.one_vocabulary()
    folder = DistillationFolder(output, _manifest(order, student), order.shared)
    with folder.open():
        return _distill(order, student, readers, folder, compare, say)


def _distill(
    order: DistillJob,
    student: Student,
    readers: Readers,
    folder: DistillationFolder,
    compare: Compare,
    say: Say,
) -> Mapping[str, Any]:
    """The run in its folder."""
    output, done = folder.path, folder.metrics
    if done is not None and done["comparison"]["asked"] == compared_by(order.comparing):
        say(f"{output} is finished; nothing to do")
        return done
    began = time.monotonic()
    learned = done or _learn(order, student, readers, folder, say)
    spec = _tuned(student, folder, lora=learned["student"]["lora"])
    contestants = Contestants(order.team, student.aligned, spec, folder.compared())
    comparison = asyncio.run(compare(contestants, order.tasks, order.comparing))
    metrics = {**learned, "comparison": comparison}
    if done is None:
        metrics["seconds"] = round(time.monotonic() - began, 1)
    write_card(
        folder.student, metrics, None if Path(student.start.model).exists() else student.start.model
    )
    _write_team(order.team, student, spec, output, say)
    folder.finish(metrics)
    return metrics


def _manifest(order: DistillJob, student: Student) -> Manifest:
    """What decides the student's weights."""
    settings = {"asking": asdict(order.asking), "learning": asdict(order.learning)}
    settings["asking"].pop("concurrency")
    for name in ("report_to", "student"):
        settings["learning"].pop(name)
    return sampling_manifest(order.team, order.tasks).with_inputs(
        **settings,
        keeping=asdict(order.keeping),
        start=fingerprint(student.start) or student.start.model,
        aligned=student.aligned,
    )


def _learn(
    order: DistillJob, student: Student, readers: Readers, folder: DistillationFolder, say: Say
) -> dict[str, Any]:
    """Everything up to the student's weights; what was measured on the way."""
    from taketurns.training.distillation import tuning

    tuning.rehearse(student.start, folder.work, order.learning)
    if failures := asyncio.run(sample(order.team, order.tasks, order.asking, folder.answers)):
        raise EngineError(failures.sentence("answers failed"))
    asked = wanted(order.tasks, order.asking)
    kept = keep(read_answers(folder.answers, asked), order.tasks, order.keeping)
    folder.write_kept(kept.answers)
    rows, too_long = make_rows(kept.answers, readers)
    if too_long:
        say(
            f"{too_long} of {len(kept.answers)} answers are left out, for with their questions "
            f"they are longer than the context of {student.name}"
        )
    train, held_out = split(rows, order.learning.held_out, order.learning.seed)
    say(_summary(kept, train, held_out))
    targets = _targets(order, kept, [*train, *held_out], readers, folder)
    plan, history = tuning.tune(
        student.start, train, held_out, targets, folder.work, order.learning
    )
    tuning.export(folder.work, folder.student)
    settings = asdict(order.learning)
    settings.pop("report_to")
    place = order.team.candidates[student.aligned].name
    return {
        "student": {**settings, **asdict(plan), "student": student.name, "in_place_of": place},
        "answers": {**asdict(order.keeping), **kept.report, "too_long": too_long},
        SAMPLE: sample_questions((one.task.name, one.query) for one in asked),
        "rows": len(train),
        "tokens": sum(row.learned for row in train),
        "history": history,
    }


def _targets(
    order: DistillJob, kept: Kept, rows: Sequence[Row], readers: Readers, folder: DistillationFolder
) -> Targets | None:
    """The speakers' distributions, where the loss needs them."""
    learning = order.learning
    if learning.loss == "sft":
        return None
    from taketurns.checkpoints.model_config import read_config
    from taketurns.training.distillation.targets import read_targets

    spec = readers.student.candidate.spec
    config = read_config(spec).get_text_config()
    by_id = {answer.id: answer for answer in kept.answers}
    with Progress("reading distributions", len(rows)) as progress:
        return read_targets(
            rows,
            [by_id[row.id] for row in rows],
            readers,
            config.vocab_size,
            learning.temperature,
            learning.top,
            folder.work,
            progress.advance,
        )


def _tuned(student: Student, folder: DistillationFolder, *, lora: bool) -> ModelSpec:
    """The student as it is loaded: its own folder, or an adapter on what it started from."""
    where = str(folder.student.resolve())
    if lora:
        return replace(student.start, adapter=where)
    return student.start.with_model(where)


def _write_team(
    team: TeamConfig, student: Student, spec: ModelSpec, output: Path, say: Say
) -> None:
    """The team with the student in the aligned one's place, for the next round."""
    if team.engine.kind != "local":
        say("no team file is written: serve the student first, and name its server in one")
        return
    candidates = list(team.candidates)
    replaced = candidates[student.aligned]
    candidates[student.aligned] = replace(replaced, spec=spec)
    switcher, policy = team.switcher, team.policy
    if _reads_states_of(replaced.name, switcher):
        say(
            f"the head knows the hidden states of {replaced.name}, not the student's: the team in "
            f"{output} switches at random until one is trained for it"
        )
        switcher, policy = SwitcherConfig(), policy.unfollowed
    entry = _entry(switcher, [candidate.name for candidate in candidates], output)
    new = replace(team, candidates=tuple(candidates), policy=policy)
    write_text(output / "team.yaml", team_yaml(new, entry, output, "distill"))


def _reads_states_of(name: str, switcher: SwitcherConfig) -> bool:
    """Does a head decide, beside the candidates or folded into them, by this one's states?"""
    if switcher.kind == "head":
        return name in load_config(switcher.path or "").readers
    return switcher.kind == "folded"


def _entry(switcher: SwitcherConfig, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """The team file's switcher; nothing for a random one, which is the default."""
    if switcher.kind == "random":
        return {}
    if switcher.kind == "fixed":
        return {"kind": "fixed", "sequence": [names[index] for index in switcher.sequence]}
    if switcher.kind == "head":
        return {"kind": "head", "path": switcher.path}
    assert switcher.spec is not None
    entry = {"kind": "lm", **spec_entry(switcher.spec, folder)}
    if switcher.candidates:
        entry["candidates"] = list(switcher.candidates)
    return entry | ({"chat_template": True} if switcher.chat_template else {})


def _summary(kept: Kept, train: Sequence[Row], held_out: Sequence[Row]) -> str:
    """The kept answers for a person, in a line."""
    report = kept.report
    return (
        f"{report['kept']} of {report['answers']} answers are kept, to {report['questions']} "
        f"questions; {len(train)} of them to learn, {len(held_out)} to measure the loss on"
    )
