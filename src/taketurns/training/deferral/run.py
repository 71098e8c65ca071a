"""One training run of a deferral head: it reads texts and writes a folder with the head, its card
and a team file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.config.team_file import team_yaml
from taketurns.errors import UsageError
from taketurns.runs.description import describe_run
from taketurns.runs.folder import RunFolder
from taketurns.runs.progress import Progress
from taketurns.runs.records import encode_record
from taketurns.training import SWITCHER_SCHEMA
from taketurns.training.card import SWITCHER, write_card
from taketurns.training.deferral import fit
from taketurns.training.deferral.places import read_places
from taketurns.training.deferral.texts import Text, Texts, read_texts
from taketurns.training.supervised.head import head_config
from taketurns.training.supervised.settings import HeadSettings, Selection, TrainingConfig
from taketurns.utils.files import write_bytes, write_text


def train_deferral(
    team: TeamConfig,
    texts: Path,
    output: Path,
    reader: str | None = None,
    layers: Sequence[int] = (),
    validation: float = 0.15,
    training: TrainingConfig | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Mapping[str, Any]:
    """Train a head by which `reader` (None: the first candidate) defers to the other candidate,
    write it to `output` and return its metrics. It reads `layers`, by default the last.

    A killed run continues; a finished one is left unchanged. `say` receives messages for the user.
    Raises UsageError for a team of more than two candidates and a share out of range, DataError for
    texts that cannot be used and for an output of another run, ConfigError for an unknown reader or
    layer, NotANumberError if training diverges.
    """
    names = [candidate.name for candidate in team.candidates]
    if len(names) != 2:
        raise UsageError(
            f"a deferral head is for two candidates, not {len(names)} ({', '.join(names)}): give a "
            "team file with two of them"
        )
    Selection(validation=validation)  # which checks the share
    training = training or TrainingConfig()
    settings = HeadSettings("candidate", reader or names[0], tuple(layers) or (-1,))
    config = head_config(team, settings)
    data = texts.read_bytes() if texts.is_file() else b""
    known = read_texts(texts)
    manifest = describe_run("train", replace(team, switcher=SwitcherConfig()), data)
    manifest = manifest.with_inputs_of("candidates", "input").with_inputs(
        settings={**asdict(settings), **asdict(training), "validation": validation}
    )
    folder = RunFolder(output, manifest, first="examples.jsonl")

    def write_first(path: Path) -> None:
        write_bytes(path, (encode_record({"id": text.query.id}) for text in known))

    with folder.open(write_first):
        if (done := folder.metrics) is not None:
            say(f"{output} is finished; nothing to do")
            return done
        began = time.monotonic()
        with Progress("reading texts", len(known)) as progress:
            kept, places = asyncio.run(
                read_places(team, config, known, folder.work, progress.advance)
            )
        if len(kept) < len(known):
            say(
                f"{len(known) - len(kept)} of {len(known)} texts are left out, because they do not "
                "fit the context of a candidate"
            )
        split = Texts.split(kept, validation, training.seed)
        of = {text.query.id: one for text, one in zip(kept, places, strict=True)}

        def some(part: Sequence[Text]) -> list[Any]:
            return [of[text.query.id] for text in part]

        fitted = fit.fit(config, some(split.train), some(split.validation), training)
        fitted.head.save(output)
        metrics = {
            "switcher": {
                "kind": "deferral",
                "reader": config.reader,
                "other": names[1 - names.index(config.reader)],
                "layers": list(config.layers[config.reader]),
                "numbers": fitted.head.numbers,
                **asdict(training),
            },
            "examples": {
                "texts": len(known),
                "too_long": len(known) - len(kept),
                "train_texts": len(split.train),
                "validation_texts": len(split.validation),
                "train_places": sum(len(one.logprobs) for one in some(split.train)),
                "validation_places": sum(len(one.logprobs) for one in some(split.validation)),
            },
            "best_epoch": fitted.best_epoch,
            "validation": fitted.history[fitted.best_epoch - 1],
            "standards": fitted.standards,
            "history": fitted.history,
            "seconds": round(time.monotonic() - began, 1),
        }
        write_card(folder.path, "deferral", metrics, SWITCHER)
        # A head that defers ends patches itself, so only their greatest length is left.
        policy = replace(team.policy, patch=None, patch_size=team.policy.max_tokens)
        entry = {"kind": "deferral", "path": ".", "threshold": 0.5}
        written = team_yaml(replace(team, policy=policy), entry, folder.path)
        write_text(folder.path / "team.yaml", written)
        folder.finish({"schema": SWITCHER_SCHEMA, **metrics})
        return metrics
