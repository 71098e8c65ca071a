"""One training run: labels in, a folder with a switcher, its card and a team file out."""

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
from taketurns.training.labels.labels import Label, read_labels
from taketurns.training.supervised.card import write_card
from taketurns.training.supervised.examples import (
    Example,
    Examples,
    digest,
    select,
    summary,
    write_examples,
)
from taketurns.training.supervised.settings import (
    HeadSettings,
    LMSettings,
    Selection,
    TrainingConfig,
)
from taketurns.training.supervised.verdict import by_task, judge, standards
from taketurns.types import ModelSpec
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import write_text

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a trainer leaves behind: its part of the metrics, the team file's switcher, what each
    validation example gets, and the hub id it started from."""

    metrics: Mapping[str, Any]
    entry: dict[str, Any]
    probabilities: Sequence[Sequence[float]]
    validation: Sequence[Example]
    base: str | None = None


def train(
    team: TeamConfig,
    labels: Path,
    output: Path,
    settings: LMSettings | HeadSettings,
    selection: Selection | None = None,
    course: TrainingConfig | None = None,
    say: Say = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a switcher for `team` and write it to `output`; what was measured.

    A run that was killed goes on from its last epoch and ends in the same weights; one that is
    finished is left as it is. `say` hears what a person should know. Raises DataError for labels of
    another pool or without signal, and for an output that holds another run; ConfigError for a
    model that cannot be a switcher.
    """
    if isinstance(settings, LMSettings):
        require("training a language model as the switcher", *TUNING)
    selection, course = selection or Selection(), course or TrainingConfig()
    names = [candidate.name for candidate in team.candidates]
    read = list(read_labels(labels, names))
    _check_cuts(team, read, labels)
    examples = select(read, names, selection, course.seed)
    say(summary(examples.report, selection.min_margin))
    manifest = _manifest(team, labels, examples, settings, course)
    folder = RunFolder(output, manifest, first="examples.jsonl")
    with folder.open(partial(write_examples, examples)):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        return _train(team, read, examples, folder, settings, selection, course, say)


def _train(
    team: TeamConfig,
    read: Sequence[Label],
    examples: Examples,
    folder: RunFolder,
    settings: LMSettings | HeadSettings,
    selection: Selection,
    course: TrainingConfig,
    say: Say,
) -> Mapping[str, Any]:
    """The run in its folder."""
    names = [candidate.name for candidate in team.candidates]
    work = _lm if isinstance(settings, LMSettings) else _head
    began = time.monotonic()
    trained = work(team, examples, folder, settings, course, say)
    metrics = {
        "switcher": {
            **asdict(selection),
            **asdict(settings),
            **asdict(course),
            "patch_size": team.policy.patch_size,
            "patch": None if team.policy.patch is None else asdict(team.policy.patch),
            "cuts": examples.train[0].label.cuts,
            **trained.metrics["switcher"],
        },
        "examples": examples.report,
        SAMPLE: sample_questions(
            (label.task, label.query)
            for label in sorted(read, key=lambda label: label.query.id)
            if label.task in examples.report["tasks"]
        ),
        "best_epoch": trained.metrics["best_epoch"],
        "validation": judge(trained.probabilities, trained.validation).to_json(),
        "standards": standards(trained.validation, names),
        "tasks": by_task(trained.probabilities, trained.validation),
        "history": trained.metrics["history"],
        "seconds": round(time.monotonic() - began, 1),
    }
    write_card(folder.path, metrics, trained.base)
    write_text(folder.path / "team.yaml", team_yaml(team, trained.entry, folder.path))
    folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
    return metrics


def _check_cuts(team: TeamConfig, labels: Sequence[Label], path: Path) -> None:
    """Raise DataError for labels that say nothing of the tokens at which the switcher will be
    asked: a head that has seen patch boundaries only is lost inside a patch."""
    rule = team.policy.patch
    if rule is None or rule.until != "switcher":
        return
    if any(label.cuts != "anywhere" for label in labels):
        raise DataError(
            f"the prefixes in {path} end where patches do, and policy.patch.until: switcher asks "
            "at every token: make labels with taketurns rollout --cuts anywhere"
        )


def _manifest(
    team: TeamConfig,
    labels: Path,
    examples: Examples,
    settings: LMSettings | HeadSettings,
    course: TrainingConfig,
) -> Manifest:
    """What decides the weights: the pool, the examples, the settings and the start."""
    chosen = {**asdict(settings), **asdict(course)}
    for name in ("report_to", "start"):
        chosen.pop(name, None)
    manifest = describe_run(
        "train", replace(team, switcher=SwitcherConfig()), b"", labels=str(labels)
    )
    manifest = manifest.with_inputs_of("candidates").with_inputs(
        examples=digest(examples), settings=chosen
    )
    if isinstance(settings, LMSettings):
        from taketurns.training.supervised.lm import numbered, start_spec

        start = start_spec(team, settings)
        manifest = manifest.with_inputs(start=fingerprint(start) or start.model)
        numbers = list(numbered(team, start))
        if numbers != [candidate.name for candidate in team.candidates]:
            manifest = manifest.with_inputs(numbers=numbers)
    return manifest


def _lm(
    team: TeamConfig,
    examples: Examples,
    folder: RunFolder,
    settings: Any,
    course: TrainingConfig,
    say: Say,
) -> Trained:
    from taketurns.training.supervised import lm

    start = lm.start_spec(team, settings)
    rows = asyncio.run(lm.render(team, start, examples.train, examples.validation))
    if rows.too_long:
        say(
            f"{rows.too_long} of these are left out too, for they are longer than the context of "
            f"{start.model}, {rows.context} tokens: {len(rows.train)} are left to learn from and "
            f"{len(rows.validation)} to choose the epoch by"
        )
    plan, history = lm.tune(start, rows, folder.work, settings, course)
    best = lm.export(folder.work, history, folder.path)
    candidate_order.save(lm.numbered(team, start), folder.path)
    where = str(folder.path.resolve())
    on_start = replace(start, adapter=where, prompt=None)
    tuned = on_start if plan.lora else ModelSpec(where)
    how = "a LoRA adapter on" if plan.lora else "all weights of"
    local = Path(start.model).exists()
    base = Path(start.model).name if local else start.model
    return Trained(
        metrics={
            "switcher": {
                **asdict(plan),
                "kind": "lm",
                "start": base,
                "too_long": rows.too_long,
                "knows_by": "name",
                "what": f"A language model ({how} {base}) that reads the question and the patches, "
                "each between tags with its writer's number; the logits of the numbers "
                "are the decision.",
            },
            "best_epoch": best,
            "history": history,
        },
        entry={"kind": "lm", **spec_entry(tuned, folder.path)},
        probabilities=asyncio.run(
            lm.probabilities(tuned, team.engine, rows.validation, rows.digits)
        ),
        validation=[row.example for row in rows.validation],
        base=None if local else start.model,
    )


def _head(
    team: TeamConfig,
    examples: Examples,
    folder: RunFolder,
    settings: Any,
    course: TrainingConfig,
    say: Say,
) -> Trained:
    from taketurns.training.supervised import head, states

    config = head.head_config(team, settings)
    every = [*examples.train, *examples.validation]
    with Progress("reading states", len(every)) as progress:
        views = asyncio.run(
            states.read_states(
                team, config, [x.label for x in every], folder.work, progress.advance
            )
        )
    fit = head.fit(config, views, examples.train, examples.validation, course, settings.bias)
    fitted = fit.head
    fitted.save(folder.path)
    for sentence in filter(None, (describe_labels(fitted.config), describe_blind(fitted))):
        say(sentence)
    held_out = views[len(examples.train) :]
    whose = "whoever spoke last" if config.mode == "speaker" else config.reader
    return Trained(
        metrics={
            "switcher": {
                "kind": "head",
                "reader": config.reader,
                "layers": {name: list(layers) for name, layers in config.layers.items()},
                "numbers": fitted.numbers,
                "labels": _counts(fitted.config),
                "shrunk": fit.shrunk.to_json(),
                "blind": describe_blind(fitted),
                "knows_by": "name",
                "what": f"A linear head of {fitted.numbers} numbers on hidden states of {whose}; "
                "it has no model of its own.",
            },
            "best_epoch": fit.best_epoch,
            "history": fit.history,
        },
        entry={"kind": "head", "path": "."},
        probabilities=[fitted.logits(view).softmax(-1).tolist() for view in held_out],
        validation=examples.validation,
    )


def _counts(config: HeadConfig) -> list[dict[str, Any]]:
    """How many labels there are after each candidate, and before any has spoken (None)."""
    return [
        {"after": name, "labels": count}
        for name, count in zip((*config.candidates, None), config.labels, strict=True)
    ]
