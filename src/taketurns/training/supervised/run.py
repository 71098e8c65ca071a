"""One training run: it reads labels and writes a folder with a switcher, its card and a team
file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import spec_entry, team_yaml
from taketurns.errors import DataError
from taketurns.runs.description import describe_run, fingerprint
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, sample_questions
from taketurns.switchers import candidate_order
from taketurns.switchers.head import HeadConfig, describe_blind, describe_labels
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.epochs import evaluations, export
from taketurns.training.labels.labels import Label, read_labels
from taketurns.training.supervised.choice_metrics import (
    by_task,
    measure_choices,
    reference_utilities,
)
from taketurns.training.supervised.examples import (
    Example,
    Examples,
    digest,
    select,
    summary,
    write_examples,
)
from taketurns.training.supervised.objective import NextSpeaker
from taketurns.training.supervised.settings import (
    HeadSettings,
    JudgeSettings,
    LMSettings,
    Selection,
    TrainingConfig,
)
from taketurns.types import ModelSpec
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import write_text

Settings = LMSettings | HeadSettings | JudgeSettings


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A switcher for `team` is trained on `examples` in `folder`; `say` receives messages for the
    user."""

    team: TeamConfig
    examples: Examples
    folder: RunFolder
    training: TrainingConfig
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainedSwitcher:
    """The result of a trainer: a description of the switcher, the best epoch, the metrics of every
    epoch, the switcher's entry in the team file, its probabilities on the validation examples, and
    the hub id of the start."""

    description: Mapping[str, Any]
    best_epoch: int
    history: Sequence[Mapping[str, float]]
    entry: dict[str, Any]
    probabilities: Sequence[Sequence[float]]
    validation: Sequence[Example]
    base: str | None = None


def train(
    team: TeamConfig,
    labels: Path,
    output: Path,
    settings: Settings,
    selection: Selection | None = None,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a switcher for `team`, write it to `output` and return its metrics.

    A killed run continues from its last epoch and ends in the same weights; a finished one is left
    unchanged. `say` receives messages for the user. Raises DataError for labels of other candidates
    or without signal, and for an output of another run; ConfigError for a model that cannot be a
    switcher; NotANumberError if training diverges.
    """
    if isinstance(settings, LMSettings):
        require("training a language model as the switcher", *TUNING)
    selection, training = selection or Selection(), training or TrainingConfig()
    names = [candidate.name for candidate in team.candidates]
    read = list(read_labels(labels, names))
    _check_cuts(team, read, labels, settings)
    examples = select(read, names, selection, training.seed)
    say(summary(examples.report, selection.min_margin))
    manifest = _manifest(team, labels, examples, settings, training)
    folder = RunFolder(output, manifest, first="examples.jsonl")
    with folder.open(partial(write_examples, examples)):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        return _train(TrainingJob(team, examples, folder, training, say), read, settings, selection)


def _train(
    job: TrainingJob,
    read: Sequence[Label],
    settings: Settings,
    selection: Selection,
) -> Mapping[str, Any]:
    """Train, measure and write the files of the folder."""
    team, examples, folder = job.team, job.examples, job.folder
    names = [candidate.name for candidate in team.candidates]
    began = time.monotonic()
    if isinstance(settings, LMSettings):
        trained = _lm(job, settings)
    elif isinstance(settings, JudgeSettings):
        trained = _judge(job, settings)
    else:
        trained = _head(job, settings)
    metrics = {
        "switcher": {
            **asdict(selection),
            **asdict(settings),
            **asdict(job.training),
            "patch_size": team.policy.patch_size,
            "patch": None if team.policy.patch is None else asdict(team.policy.patch),
            "cuts": examples.train[0].label.cut_at,
            **trained.description,
        },
        "examples": examples.report,
        SAMPLE: sample_questions(
            (label.task, label.query)
            for label in sorted(read, key=lambda label: label.query.id)
            if label.task in examples.report["tasks"]
        ),
        "best_epoch": trained.best_epoch,
        "validation": measure_choices(trained.probabilities, trained.validation).to_json(),
        "standards": reference_utilities(trained.validation, names),
        "tasks": by_task(trained.probabilities, trained.validation),
        "history": trained.history,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_card(folder.path, "switcher", metrics, SWITCHER, trained.base)
    write_text(folder.path / "team.yaml", team_yaml(team, trained.entry, folder.path))
    folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
    return metrics


def _check_cuts(team: TeamConfig, labels: Sequence[Label], path: Path, settings: Settings) -> None:
    """Raise DataError for labels of other places than the switcher will decide at. A head trained
    only at patch boundaries is unreliable inside a patch, and a judge reads both patches."""
    if isinstance(settings, JudgeSettings):
        if any(label.cut_at != "comparison" for label in labels):
            raise DataError(
                f"the labels in {path} do not say where patches were compared, which a judge "
                "learns: make labels with taketurns rollout --traces on-policy --cuts comparison"
            )
        return
    rule = team.policy.patch
    if rule is None or rule.until != "switcher":
        return
    if any(label.cut_at != "anywhere" for label in labels):
        raise DataError(
            f"the prefixes in {path} end at patch boundaries, but policy.patch.until: switcher "
            "asks the switcher at every token: make labels with taketurns rollout --cuts anywhere"
        )


def _manifest(
    team: TeamConfig,
    labels: Path,
    examples: Examples,
    settings: Settings,
    training: TrainingConfig,
) -> Manifest:
    """The inputs that decide the weights: candidates, examples, settings and start."""
    chosen = {**asdict(settings), **asdict(training)}
    for name in ("report_to", "start"):
        chosen.pop(name, None)
    manifest = describe_run(
        "train", replace(team, switcher=SwitcherConfig()), b"", labels=str(labels)
    )
    manifest = manifest.with_inputs_of("candidates").with_inputs(
        examples=digest(examples), settings=chosen
    )
    if isinstance(settings, JudgeSettings):
        from taketurns.training.supervised.judge import rule_of

        return manifest.with_inputs(rule=asdict(rule_of(team)))
    if isinstance(settings, LMSettings):
        from taketurns.training.supervised.lm import numbered, start_spec

        start = start_spec(team, settings)
        manifest = manifest.with_inputs(start=fingerprint(start) or start.model)
        numbers = list(numbered(team, start))
        if numbers != [candidate.name for candidate in team.candidates]:
            manifest = manifest.with_inputs(numbers=numbers)
    return manifest


def _lm(job: TrainingJob, settings: LMSettings) -> TrainedSwitcher:
    from taketurns.training.supervised import lm

    team, path = job.team, job.folder.path
    start = lm.start_spec(team, settings)
    rows = asyncio.run(lm.render(team, start, job.examples.train, job.examples.validation))
    if rows.too_long:
        job.say(
            f"{rows.too_long} of these labels are left out too, because they do not fit the "
            f"context of {start.model}, {rows.context} tokens: {len(rows.train)} remain for "
            f"training and {len(rows.validation)} for choosing the epoch"
        )
    plan, log = lm.tune(start, rows, job.folder.work, settings, job.training)
    best = export(job.folder.work, log, NextSpeaker.best_by, path)
    candidate_order.save(lm.numbered(team, start), path)
    where = str(path.resolve())
    on_start = replace(start, adapter=where, prompt=None)
    tuned = on_start if plan.lora else ModelSpec(where)
    how = "a LoRA adapter on" if plan.lora else "all weights of"
    local = Path(start.model).exists()
    base = Path(start.model).name if local else start.model
    return TrainedSwitcher(
        {
            **asdict(plan),
            "kind": "lm",
            "start": base,
            "too_long": rows.too_long,
            "knows_by": "name",
            "what": f"A language model ({how} {base}) that reads the question and the patches, "
            "each between tags with its speaker's number; the logits of the candidates' numbers "
            "give the probabilities of the next speaker.",
        },
        best,
        evaluations(log, NextSpeaker.best_by),
        entry={"kind": "lm", **spec_entry(tuned, path)},
        probabilities=asyncio.run(
            lm.probabilities(tuned, team.engine, rows.validation, rows.digits)
        ),
        validation=[row.example for row in rows.validation],
        base=None if local else start.model,
    )


def _head(job: TrainingJob, settings: HeadSettings) -> TrainedSwitcher:
    from taketurns.training.supervised import head, states

    config, examples = head.head_config(job.team, settings), job.examples
    labels = [example.label for example in (*examples.train, *examples.validation)]
    with Progress("reading states", len(labels)) as progress:
        views = asyncio.run(
            states.read_states(job.team, config, labels, job.folder.work, progress.advance)
        )
    fit = head.fit(config, views, examples.train, examples.validation, job.training, settings.bias)
    fitted = fit.head
    fitted.save(job.folder.path)
    for sentence in filter(None, (describe_labels(fitted.config), describe_blind(fitted))):
        job.say(sentence)
    held_out = views[len(examples.train) :]
    whose = "the last speaker" if config.mode == "speaker" else config.reader
    return TrainedSwitcher(
        {
            "kind": "head",
            "reader": config.reader,
            "layers": {name: list(layers) for name, layers in config.layers.items()},
            "numbers": fitted.numbers,
            "labels": _counts(fitted.config),
            "shrunk": fit.shrunk.to_json(),
            "blind": describe_blind(fitted),
            "knows_by": "name",
            "what": f"A linear head of {fitted.numbers} numbers on hidden states of {whose}; "
            "it needs no model besides the candidates.",
        },
        fit.best_epoch,
        fit.history,
        entry={"kind": "head", "path": "."},
        probabilities=[fitted.logits(view).softmax(-1).tolist() for view in held_out],
        validation=examples.validation,
    )


def _judge(job: TrainingJob, settings: JudgeSettings) -> TrainedSwitcher:
    from taketurns.training.supervised import judge, states

    team, examples = job.team, job.examples
    config, rule = judge.judge_config(team, settings), judge.rule_of(team)
    labels = judge.after_patches((*examples.train, *examples.validation))
    with Progress("reading states", len(labels)) as progress:
        views = asyncio.run(
            states.read_states(team, config, labels, job.folder.work, progress.advance)
        )
    train = judge.pairs(examples.train, views[: 2 * len(examples.train)])
    validation = judge.pairs(examples.validation, views[2 * len(examples.train) :])
    fitted = judge.fit(config, train, validation, settings, job.training)
    fitted.judge.save(job.folder.path)
    return TrainedSwitcher(
        {
            "kind": "mentorcollab",
            "reader": config.reader,
            "layers": list(config.layers[config.reader]),
            "numbers": fitted.judge.numbers,
            "lookahead": rule.lookahead,
            "knows_by": "name",
            "what": f"A judge of {fitted.judge.numbers} numbers for MentorCollab "
            f"([2602.05307](https://arxiv.org/abs/2602.05307)). {config.reader} writes; where the "
            f"next tokens of both differ, both write a patch of {rule.lookahead} tokens, and a "
            f"network with {settings.width} hidden units says by the hidden states of "
            f"{config.reader} after each patch which of the two is kept.",
        },
        fitted.best_epoch,
        fitted.history,
        entry={
            "kind": "mentorcollab",
            "path": ".",
            "base": config.reader,
            "rate": rule.rate,
            "lookahead": rule.lookahead,
        },
        probabilities=[
            fitted.judge.logits(pair.states).softmax(-1).tolist() for pair in validation
        ],
        validation=[pair.example for pair in validation],
    )


def _counts(config: HeadConfig) -> list[dict[str, Any]]:
    """The number of labels after each candidate, and before any candidate has spoken (None)."""
    return [
        {"after": name, "labels": count}
        for name, count in zip((*config.candidates, None), config.labels, strict=True)
    ]
