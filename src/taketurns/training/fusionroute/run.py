"""One training run of a router: it reads texts and writes a folder with the router, its routing
head, its card and a team file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.runs.description import describe_run, fingerprint
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import encode_record
from taketurns.training.deferral.texts import Text, Texts, read_texts
from taketurns.training.epochs import evaluations, export
from taketurns.training.fine_tuning import Defaults, fine_tune
from taketurns.training.fusionroute.output import (
    RouterSettings,
    start_name,
    trained_spec,
    write_router,
)
from taketurns.training.fusionroute.rows import ROUTER, FusionRow, FusionRows, read_rows
from taketurns.training.models import one_thread
from taketurns.training.supervised.lm import start_spec
from taketurns.training.supervised.settings import TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import write_bytes

if TYPE_CHECKING:
    from taketurns.training.fusionroute.routing import FittedRouting

DEFAULTS = Defaults(lora_epochs=2, full_epochs=6, full_weight_decay=0.05)


def train_router(
    team: TeamConfig,
    texts: Path,
    output: Path,
    settings: RouterSettings | None = None,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a router for `team` on texts, write it to `output` and return its metrics.

    A killed run continues from its last epoch and ends in the same weights; a finished one is left
    unchanged. `say` receives messages for the user. Raises ConfigError for models with different
    vocabularies, DataError for texts that cannot be used and for an output of another run,
    NotANumberError if training diverges.
    """
    require("training a router", *TUNING)
    settings, training = settings or RouterSettings(), training or TrainingConfig()
    start, known = start_spec(team, settings.model), read_texts(texts)
    read = asyncio.run(read_rows(team, start, known))
    manifest = _manifest(team, start, texts.read_bytes(), settings, training)
    folder = RunFolder(output, manifest, first="examples.jsonl")
    with folder.open(partial(_write_ids, known)):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        return _train(_Run(team, start, settings, training, say), folder, known, read)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run is asked for."""

    team: TeamConfig
    start: ModelSpec
    settings: RouterSettings
    training: TrainingConfig
    say: Callable[[str], None]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(candidate.name for candidate in self.team.candidates)


def _train(
    run: _Run, folder: RunFolder, known: Sequence[Text], read: FusionRows
) -> Mapping[str, Any]:
    """Train the router, then its head, and write the files of the folder; the metrics."""
    from taketurns.engines.local.loading import Weights
    from taketurns.training.fusionroute.objective import FrozenCandidates, FusedNextToken

    began, path, team = time.monotonic(), folder.path, run.team
    rows = {t.query.id: row for t, row in zip(known, read.rows, strict=True) if row is not None}
    if len(rows) < len(known):
        run.say(
            f"{len(known) - len(rows)} of {len(known)} texts are left out, because they do not fit "
            "the context of a model, or have tokens that not all models know"
        )
    kept = [text for text in known if text.query.id in rows]
    split = Texts.split(kept, run.settings.validation, run.training.seed)
    train, validation = (
        [rows[text.query.id] for text in part] for part in (split.train, split.validation)
    )
    weights = Weights({candidate.name: candidate.spec for candidate in team.candidates})
    candidates = FrozenCandidates([weights.load(name) for name in run.names], read.outcomes)
    objective = FusedNextToken(train, validation, candidates)
    plan, log = fine_tune(
        run.start,
        objective,
        folder.work,
        run.settings.fine_tuning(run.training),
        DEFAULTS,
        run.training.patience,
    )
    best = export(folder.work, log, objective.best_by, path)
    tuned = trained_spec(run.start, path, lora=plan.lora)
    with one_thread(plan.small):
        fitted = _route(run, tuned, candidates, train, validation)
    likelihoods = [-entry["eval_likelihood"] for entry in evaluations(log, objective.best_by)]
    metrics = {
        "switcher": {
            **asdict(run.settings.model),
            **asdict(run.training),
            **asdict(plan),
            "kind": "fusionroute",
            "start": start_name(run.start),
            "candidates": list(run.names),
        },
        "examples": {
            "texts": len(known),
            "left_out": len(known) - len(kept),
            "train_texts": len(train),
            "validation_texts": len(validation),
            "train_places": sum(row.places for row in train),
            "validation_places": sum(row.places for row in validation),
        },
        "best_epoch": best,
        "validation": fitted.history[fitted.best_epoch - 1],
        "standards": {"alone": fitted.alone, "best": fitted.best},
        "history": {"router": likelihoods, "head": fitted.history},
        "seconds": round(time.monotonic() - began, 1),
    }
    write_router(folder, team, run.start, tuned, fitted.head, "fusionroute", metrics)
    return metrics


def _route(
    run: _Run,
    tuned: ModelSpec,
    candidates: Any,
    train: Sequence[FusionRow],
    validation: Sequence[FusionRow],
) -> FittedRouting:
    """The routing head of a trained router."""
    from taketurns.engines.local.loading import Weights
    from taketurns.training.fusionroute import routing

    router = Weights({ROUTER: tuned}).load(ROUTER)
    with Progress("reading states", len(train) + len(validation)) as progress:
        learned, held_out = (
            routing.read_states(router, candidates, rows, progress.advance)
            for rows in (train, validation)
        )
    return routing.fit(run.names, learned, held_out, TrainingConfig(seed=run.training.seed))


def _manifest(
    team: TeamConfig,
    start: ModelSpec,
    data: bytes,
    settings: RouterSettings,
    training: TrainingConfig,
) -> Manifest:
    """The inputs that decide the weights: candidates, texts, settings and start."""
    chosen = {**asdict(settings.model), **asdict(training), "validation": settings.validation}
    for name in ("report_to", "start"):
        chosen.pop(name)
    manifest = describe_run("train", replace(team, switcher=SwitcherConfig()), data)
    return manifest.with_inputs_of("candidates", "input").with_inputs(
        settings=chosen, start=fingerprint(start) or start.model, prompt=start.prompt
    )


def _write_ids(texts: Sequence[Text], path: Path) -> None:
    write_bytes(path, (encode_record({"id": text.query.id}) for text in texts))
