"""One training run of a deferral head: it reads texts and writes a folder with the head, its card
and a team file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import team_yaml
from taketurns.errors import DataError, UsageError
from taketurns.runs.description import describe_run
from taketurns.runs.folder import RunFolder
from taketurns.runs.manifest import Manifest
from taketurns.runs.progress import Progress
from taketurns.runs.records import SAMPLE, encode_record, query_to_json, sample_questions
from taketurns.switchers.head import HeadConfig
from taketurns.tasks.base import Task
from taketurns.tasks.own_parts import own_parts
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.deferral import fit
from taketurns.training.deferral.divergence import find_divergences, questions_of
from taketurns.training.deferral.places import read_places
from taketurns.training.deferral.texts import Text, Texts, read_texts
from taketurns.training.supervised.head import head_config
from taketurns.training.supervised.settings import HeadSettings, Selection, TrainingConfig
from taketurns.utils.files import write_bytes, write_text


@dataclass(frozen=True, slots=True)
class DeferralSettings:
    """`reader` is the candidate that defers (None: the first); `layers` are those that the head
    reads, by default the last. `validation` is the share of the texts that chooses the epoch.
    Raises UsageError for a value out of range."""

    reader: str | None = None
    layers: tuple[int, ...] = (-1,)
    validation: float = 0.15

    def __post_init__(self) -> None:
        Selection(validation=self.validation)  # which checks the share


def train_on_texts(
    team: TeamConfig,
    texts: Path,
    output: Path,
    settings: DeferralSettings | None = None,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a head by the marginal likelihood of texts (Co-LLM), write it to `output` and return
    its metrics.

    A killed run continues; a finished one is left unchanged. `say` receives messages for the user.
    Raises UsageError for a team of more than two candidates, DataError for texts that cannot be
    used and for an output of another run, ConfigError for an unknown reader or layer,
    NotANumberError if training diverges.
    """
    run = _Run.of(team, settings, training, say)
    known = read_texts(texts)
    manifest = run.manifest(texts.read_bytes())
    folder = RunFolder(output, manifest, first="examples.jsonl")
    with folder.open(partial(_write_ids, [text.query.id for text in known])):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        return run.fit(known, folder, {"learned": "texts"})


def train_on_divergences(
    team: TeamConfig,
    tasks: Sequence[Task],
    output: Path,
    limit: int = 100,
    settings: DeferralSettings | None = None,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a head by where the answers of both models part (R2R), on the first `limit` train
    questions of each task, write it to `output` and return its metrics. Stops and errors are those
    of `train_on_texts`; also raises ConfigError for candidates with different vocabularies,
    DataError if the answers part nowhere."""
    run = _Run.of(team, settings, training, say)
    questions = questions_of(tasks, limit)
    data = b"".join(encode_record(query_to_json(question.query)) for question in questions)
    manifest = run.manifest(data).with_inputs(policy=asdict(team.policy), **own_parts(tasks))
    folder = RunFolder(output, manifest, first="examples.jsonl")
    with folder.open(partial(_write_ids, [question.id for question in questions])):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        path = folder.work / "divergences.jsonl"
        found = asyncio.run(find_divergences(team, run.base, questions, path, manifest))
        say(
            f"the next tokens differ at {found.differ} of {found.compared} places, and the answers "
            f"part at {found.part}"
        )
        if not found.part:
            raise DataError(
                "the answers of the two candidates part nowhere, so there is nothing to learn: "
                "raise --limit, or name other tasks with --task"
            )
        about = {
            "learned": "divergences",
            "compared": found.compared,
            "differ": found.differ,
            "part": found.part,
        }
        asked = sample_questions((question.task.name, question.query) for question in questions)
        return run.fit(found.texts, folder, about, {SAMPLE: asked})


@dataclass(frozen=True, slots=True)
class _Run:
    """What both kinds of training share."""

    team: TeamConfig
    config: HeadConfig
    settings: DeferralSettings
    training: TrainingConfig
    say: Callable[[str], None]

    @classmethod
    def of(
        cls,
        team: TeamConfig,
        settings: DeferralSettings | None,
        training: TrainingConfig | None,
        say: Callable[[str], None],
    ) -> _Run:
        names = [candidate.name for candidate in team.candidates]
        if len(names) != 2:
            raise UsageError(
                f"a deferral head is for two candidates, not {len(names)} ({', '.join(names)}): "
                "give a team file with two of them"
            )
        settings = settings or DeferralSettings()
        reads = HeadSettings("candidate", settings.reader or names[0], settings.layers)
        config = head_config(team, reads)
        return cls(team, config, settings, training or TrainingConfig(), say)

    @property
    def base(self) -> int:
        return self.config.candidates.index(self.config.reader)

    def manifest(self, data: bytes) -> Manifest:
        manifest = describe_run("train", replace(self.team, switcher=SwitcherConfig()), data)
        settings = {**asdict(self.settings), **asdict(self.training), "reader": self.config.reader}
        return manifest.with_inputs_of("candidates", "input").with_inputs(settings=settings)

    def fit(
        self,
        texts: Sequence[Text],
        folder: RunFolder,
        about: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Read the texts, fit the head and write the files of the folder; the metrics."""
        config, began = self.config, time.monotonic()
        with Progress("reading texts", len(texts)) as progress:
            kept, places = asyncio.run(
                read_places(self.team, config, texts, folder.work, progress.advance)
            )
        if len(kept) < len(texts):
            self.say(
                f"{len(texts) - len(kept)} of {len(texts)} texts are left out, because they do not "
                "fit the context of a candidate"
            )
        split = Texts.split(kept, self.settings.validation, self.training.seed)
        of = {text.query.id: one for text, one in zip(kept, places, strict=True)}
        train = [of[text.query.id] for text in split.train]
        validation = [of[text.query.id] for text in split.validation]
        fitted = fit.fit(config, train, validation, self.training)
        fitted.head.save(folder.path)
        metrics = {
            "switcher": {
                "kind": "deferral",
                "reader": config.reader,
                "other": config.candidates[1 - self.base],
                "layers": list(config.layers[config.reader]),
                "numbers": fitted.head.numbers,
                **asdict(self.training),
            },
            "examples": {
                **about,
                "texts": len(texts),
                "too_long": len(texts) - len(kept),
                "train_texts": len(train),
                "validation_texts": len(validation),
                "train_places": sum(len(one.logprobs) for one in train),
                "validation_places": sum(len(one.logprobs) for one in validation),
            },
            **(more or {}),
            "best_epoch": fitted.best_epoch,
            "validation": fitted.history[fitted.best_epoch - 1],
            "standards": fitted.standards,
            "history": fitted.history,
            "seconds": round(time.monotonic() - began, 1),
        }
        write_card(folder.path, "deferral", metrics, SWITCHER)
        # A head that defers ends patches itself, so only their greatest length is left.
        policy = self.team.policy
        policy = replace(policy, patch=None, patch_size=policy.max_tokens)
        entry = {"kind": "deferral", "path": ".", "threshold": 0.5}
        written = team_yaml(replace(self.team, policy=policy), entry, folder.path)
        write_text(folder.path / "team.yaml", written)
        folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
        return metrics


def _write_ids(ids: Sequence[str], path: Path) -> None:
    write_bytes(path, (encode_record({"id": identifier}) for identifier in ids))
