"""One training run of a router: it reads texts and writes a folder with the router, its routing
head, its card and a team file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import spec_entry, team_yaml
from taketurns.runs.description import describe_run, fingerprint
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import encode_record
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.deferral.texts import Text, Texts, read_texts
from taketurns.training.epochs import evaluations, export
from taketurns.training.fine_tuning import Defaults, fine_tune
from taketurns.training.fusionroute.rows import ROUTER, FusionRow, FusionRows, read_rows
from taketurns.training.models import one_thread
from taketurns.training.settings import FineTuningConfig
from taketurns.training.supervised.lm import start_spec
from taketurns.training.supervised.settings import LMSettings, Selection, TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import write_bytes, write_text

if TYPE_CHECKING:
    from taketurns.training.fusionroute.routing import FittedRouting

DEFAULTS = Defaults(lora_epochs=2, full_epochs=6, full_weight_decay=0.05)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The model that the router starts from, and how its weights are trained; `validation` is the
    share of the texts that chooses the epochs. Raises UsageError for a value out of range."""

    model: LMSettings = field(default_factory=LMSettings)
    validation: float = 0.15

    def __post_init__(self) -> None:
        Selection(validation=self.validation)  # which checks the share


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

    @property
    def fine_tuning(self) -> FineTuningConfig:
        training, model = self.training, self.settings.model
        return FineTuningConfig(
            training.epochs,
            training.learning_rate,
            training.batch_size,
            training.weight_decay,
            training.seed,
            model.lora,
            model.rank,
            model.report_to,
        )


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
        run.start, objective, folder.work, run.fine_tuning, DEFAULTS, run.training.patience
    )
    best = export(folder.work, log, objective.best_by, path)
    where = str(path.resolve())
    tuned = replace(run.start, adapter=where) if plan.lora else run.start.with_model(where)
    with one_thread(plan.small):
        fitted = _route(run, tuned, candidates, train, validation)
    fitted.head.save(path)
    local = Path(run.start.model).exists()
    base = Path(run.start.model).name if local else run.start.model
    likelihoods = [-entry["eval_likelihood"] for entry in evaluations(log, objective.best_by)]
    metrics = {
        "switcher": {
            **asdict(run.settings.model),
            **asdict(run.training),
            **asdict(plan),
            "kind": "fusionroute",
            "start": base,
            "candidates": list(run.names),
        },
        "examples": {
            "texts": len(known),
            "left_out": len(known) - len(kept),
            "train_texts": len(train),
            "validation_texts": len(validation),
            "train_places": sum(len(row.answer) + 1 for row in train),
            "validation_places": sum(len(row.answer) + 1 for row in validation),
        },
        "best_epoch": best,
        "validation": fitted.history[fitted.best_epoch - 1],
        "standards": {"alone": fitted.alone, "best": fitted.best},
        "history": {"router": likelihoods, "head": fitted.history},
        "seconds": round(time.monotonic() - began, 1),
    }
    write_card(path, "fusionroute", metrics, SWITCHER, None if local else run.start.model)
    # The switcher ends each patch after a token, so only their greatest length is left.
    policy = replace(
        team.policy, patch=None, patch_size=team.policy.max_tokens, greedy_switcher=True
    )
    entry = {"kind": "fusionroute", **spec_entry(tuned, path), "path": "."}
    write_text(path / "team.yaml", team_yaml(replace(team, policy=policy), entry, path))
    folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
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
