"""The preference stage of a router: its logits are trained on pairs of answers, and its head stays
as it is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError, DataError, EngineError, UsageError
from taketurns.runs.description import describe_run
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, encode_record, query_to_json, sample_questions
from taketurns.tasks.base import Task
from taketurns.training.deferral.texts import Text, Texts
from taketurns.training.distillation.sampling import (
    SampleRequest,
    read_answers,
    sample,
    sample_requests,
    sampling_manifest,
)
from taketurns.training.distillation.settings import SamplingConfig
from taketurns.training.epochs import evaluations, export
from taketurns.training.fine_tuning import Defaults, fine_tune
from taketurns.training.fusionroute.output import (
    RouterSettings,
    start_name,
    trained_spec,
    write_router,
)
from taketurns.training.fusionroute.preferences import Preference, compare, read_preferences
from taketurns.training.fusionroute.rows import ROUTER, FusionRow, read_rows
from taketurns.training.models import one_thread, size
from taketurns.training.settings import SMALL
from taketurns.training.settings import require as check
from taketurns.training.supervised.settings import TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import write_bytes

if TYPE_CHECKING:
    from taketurns.training.fusionroute.complement import ReadAnswer

DEFAULTS = Defaults(
    lora_epochs=2, full_epochs=4, full_weight_decay=0.0, lora_rate=2e-5, full_rate=5e-5
)
UNTRAINED = math.log(2)  # the loss of the router before, to which either answer is as likely


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """How the weights are trained, `beta` of DPO, and how many answers the team writes to how many
    train questions of a task where no pairs are given. Raises UsageError for a value out of
    range."""

    router: RouterSettings = field(default_factory=RouterSettings)
    beta: float = 0.1
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(8, 100))

    def __post_init__(self) -> None:
        check(0 < self.beta < math.inf, f"beta must be above 0, not {self.beta}")
        check(self.sampling.answers > 1, "two answers to a question are the least to compare")


def improve_router(
    team: TeamConfig,
    source: Path | Sequence[Task],
    output: Path,
    settings: PreferenceSettings | None = None,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train the router of `team` on the pairs of a file, or on its own answers to the train
    questions of tasks, of which the better ones are preferred. Writes the new router to `output`
    and returns its metrics.

    A killed run continues, with the same result; a finished one is left unchanged. `say` receives
    messages for the user. Raises ConfigError for a team without a router, UsageError for another
    start, DataError for pairs that cannot be used, for answers that are all alike and for an output
    of another run, EngineError if answers fail, NotANumberError if training diverges.
    """
    require("training a router", *TUNING)
    settings, training = settings or PreferenceSettings(), training or TrainingConfig()
    start = team.switcher.spec
    if team.switcher.kind != "fusionroute" or start is None:
        raise ConfigError(
            f"this team's switcher is {team.switcher.kind}, and preferences train a router: give "
            "the folder of one with --team, or train one on --texts first"
        )
    if settings.router.model.start is not None:
        raise UsageError(
            "preferences train the router that the team has: leave out --start, or train another "
            "one on --texts first"
        )
    run = _Run(team, start, settings, training, say)
    if isinstance(source, Path):
        pairs = read_preferences(source)
        folder = run.folder(output, run.manifest(source.read_bytes()))
        with folder.open(partial(_write_ids, [pair.query.id for pair in pairs])):
            return run.finished(folder) or run.train(folder, pairs, {"learned": "pairs"}, {})
    asked = sample_requests(source, settings.sampling)
    data = b"".join(encode_record(query_to_json(item.query)) for item in asked)
    # The answers depend on the policy too, and on the tasks' scorers.
    drawn = sampling_manifest(team, source)
    manifest = run.manifest(data).with_inputs(drawn=drawn.inputs)
    folder = run.folder(output, manifest)
    with folder.open(partial(_write_ids, sorted({item.query.id for item in asked}))):
        return run.finished(folder) or run.train_on_answers(folder, source, asked)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run is asked for."""

    team: TeamConfig
    start: ModelSpec
    settings: PreferenceSettings
    training: TrainingConfig
    say: Callable[[str], None]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(candidate.name for candidate in self.team.candidates)

    def folder(self, output: Path, manifest: Manifest) -> RunFolder:
        return RunFolder(output, manifest, first="examples.jsonl")

    def manifest(self, data: bytes) -> Manifest:
        """The inputs that decide the weights: the team with its router, the pairs or questions, and
        the settings."""
        chosen = {**asdict(self.settings.router.model), **asdict(self.training)}
        for name in ("report_to", "start"):
            chosen.pop(name)
        sampling = asdict(self.settings.sampling)
        sampling.pop("concurrency")
        chosen |= {"validation": self.settings.router.validation, "beta": self.settings.beta}
        return (
            describe_run("train", self.team, data)
            .with_inputs_of("candidates", "switcher", "input")
            .with_inputs(settings={**chosen, "sampling": sampling})
        )

    def finished(self, folder: RunFolder) -> Mapping[str, Any] | None:
        if (done := folder.metrics) is not None:
            self.say(f"{folder.path} is finished; nothing to do")
        return done

    def train_on_answers(
        self, folder: RunFolder, tasks: Sequence[Task], asked: Sequence[SampleRequest]
    ) -> Mapping[str, Any]:
        """Ask the team, pair its answers and train; the metrics."""
        path = folder.work / "answers.jsonl"
        if failures := asyncio.run(sample(self.team, tasks, self.settings.sampling, path)):
            raise EngineError(failures.sentence("answers failed"))
        made = compare(read_answers(path, asked))
        self.say(
            f"{len(made.pairs)} pairs of {made.answers} answers, {made.unfinished} of which were "
            f"cut off or not scored; the answers to {made.alike} of {made.questions} questions are "
            "alike"
        )
        if len({pair.query.id for pair in made.pairs}) < 2:
            raise DataError(
                "too few questions have a better and a worse answer, so there is nothing to learn: "
                "raise --limit or --answers, or name other tasks with --task"
            )
        about = {"learned": "answers", **{k: v for k, v in asdict(made).items() if k != "pairs"}}
        sampled = sample_questions((item.task.name, item.query) for item in asked)
        return self.train(folder, made.pairs, about, {SAMPLE: sampled})

    def train(
        self,
        folder: RunFolder,
        pairs: Sequence[Preference],
        about: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Train the router and write the files of the folder; the metrics."""
        from taketurns.engines.local.loading import Weights
        from taketurns.switchers.routing_head import RoutingHead
        from taketurns.training.fusionroute.complement import (
            FusedPreference,
            ReadPair,
            answers_read_by,
        )
        from taketurns.training.fusionroute.objective import FrozenCandidates

        began, team, settings = time.monotonic(), self.team, self.settings
        texts = [Text(p.query, text) for p in pairs for text in (p.chosen, p.rejected)]
        read = asyncio.run(read_rows(team, self.start, texts))
        rows = zip(pairs, read.rows[::2], read.rows[1::2], strict=True)
        kept = [(p, good, bad) for p, good, bad in rows if good is not None and bad is not None]
        if len(kept) < len(pairs):
            self.say(
                f"{len(pairs) - len(kept)} of {len(pairs)} pairs are left out, because they do not "
                "fit the context of a model, or have tokens that not all models know"
            )
        head = RoutingHead.load(team.switcher.path or "").ordered(self.names)
        weights = Weights({candidate.name: candidate.spec for candidate in team.candidates})
        candidates = FrozenCandidates([weights.load(name) for name in self.names], read.outcomes)

        def said(router: ModelSpec, of: Sequence[FusionRow]) -> list[ReadAnswer]:
            loaded = Weights({ROUTER: router}).load(ROUTER)
            small = size(loaded.model) < SMALL
            with Progress("reading answers", len(of)) as progress, one_thread(small):
                return answers_read_by(loaded, head, candidates, of, progress.advance)

        before = said(self.start, [row for _, good, bad in kept for row in (good, bad)])
        queries = {pair.query.id: Text(pair.query, "") for pair, _, _ in kept}
        split = Texts.split(tuple(queries.values()), settings.router.validation, self.training.seed)
        held_out = {text.query.id for text in split.validation}
        train: list[ReadPair] = []
        validation: list[ReadPair] = []
        for (pair, _, _), good, bad in zip(kept, before[::2], before[1::2], strict=True):
            part = validation if pair.query.id in held_out else train
            part.append(ReadPair(good, bad))
        objective = FusedPreference(train, validation, candidates, settings.beta)
        plan, log = fine_tune(
            self.start,
            objective,
            folder.work,
            settings.router.fine_tuning(self.training),
            DEFAULTS,
            self.training.patience,
        )
        best = export(folder.work, log, objective.best_by, folder.path)
        tuned = trained_spec(self.start, folder.path, lora=plan.lora)
        checked = [answer for pair in validation for answer in (pair.chosen, pair.rejected)]
        after = said(tuned, [answer.row for answer in checked])
        same = sum(
            int((now.picks == then.picks).sum()) for now, then in zip(after, checked, strict=True)
        )
        history = [
            {"loss": -entry["eval_likelihood"], "right": entry["eval_right"]}
            for entry in evaluations(log, objective.best_by)
        ]
        if history[best - 1]["loss"] >= UNTRAINED:
            self.say(
                "no epoch is better on the validation pairs than the router before: keep that one, "
                "or give more pairs"
            )
        metrics = {
            "switcher": {
                **asdict(settings.router.model),
                **asdict(self.training),
                **asdict(plan),
                "beta": settings.beta,
                "kind": "fusionroute",
                "start": start_name(self.start),
                "candidates": list(self.names),
            },
            "examples": {
                **about,
                "pairs": len(pairs),
                "left_out": len(pairs) - len(kept),
                "train_pairs": len(train),
                "validation_pairs": len(validation),
            },
            **more,
            "best_epoch": best,
            "validation": {
                **history[best - 1],
                "same_picks": same / sum(answer.row.places for answer in checked),
            },
            "standards": {"untrained": UNTRAINED},
            "history": history,
            "seconds": round(time.monotonic() - began, 1),
        }
        write_router(folder, team, self.start, tuned, head, "preferred", metrics)
        return metrics


def _write_ids(ids: Sequence[str], path: Path) -> None:
    write_bytes(path, (encode_record({"id": identifier}) for identifier in ids))
