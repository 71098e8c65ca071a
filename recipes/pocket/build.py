"""The pipeline: three checkpoints, labels, switchers and a card, each made once and then skipped.

A stage is written to a temporary place and moved when it is complete, with a marker that has the
digest of all settings it depends on. The next run continues at the first stage with a missing or
different marker. Progress goes to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from recipes.pocket.card import write_card
from recipes.pocket.corpus import documents
from recipes.pocket.recipe import (
    STAGES,
    ArchitectureName,
    BuildStage,
    ModelShape,
    Recipe,
    read_digest,
)
from recipes.pocket.sft import lessons
from recipes.pocket.switching import label, train_switchers, write_team
from recipes.pocket.vocabulary import words
from taketurns.errors import UsageError
from taketurns.pocket.tasks import tasks
from taketurns.pocket.world import World
from taketurns.utils.extras import TUNING, require
from taketurns.utils.files import atomic_folder, write_text

MARKER = "stage.json"
PARTS = len(STAGES) + 1  # the card is the last
THREADS = 1


def build(
    out: Path,
    seed: int = 0,
    threads: int | None = None,
    recipe: Recipe | None = None,
    architecture: ArchitectureName = "llama",
    until: BuildStage | None = None,
) -> None:
    """Make a team under `out`: pretrained/, sft/, aligned/, labels/, switchers/, team.yaml, card.md
    and card.json; or the part of it up to the stage `until`.

    Deterministic for a seed and a number of threads on one machine; the bundled checkpoints were
    made with one thread, the default. Raises UsageError if `out` is a file, or has files in the
    place of a stage that no build made.
    """
    from dataclasses import replace

    import torch
    from rich.console import Console

    if out.exists() and not out.is_dir():
        raise UsageError(f"--output {out} is a file: give a folder to build in")
    require("building the pipeline", *(TUNING if until != "pretrained" else ()))
    _require_ours(out)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    recipe = recipe or Recipe(shape=ModelShape(architecture))
    recipe = replace(recipe, seed=seed, threads=threads or THREADS)
    console = Console(stderr=True)
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        for number, stage in enumerate(STAGES, 1):
            _stage(recipe, stage, out, f"[{number}/{PARTS}] {stage}", console.print)
            if stage == until:
                return
        write_team(out)
        digest = recipe.digest("card", sample_text(recipe, "card"))
        write_card(recipe, digest, out, f"[{PARTS}/{PARTS}] card", console)
    finally:
        torch.set_num_threads(before)


def _require_ours(out: Path) -> None:
    for stage in STAGES:
        if (out / stage).exists() and not (out / stage / MARKER).exists():
            raise UsageError(f"{out / stage} exists and no build made it: give another --output")
    if (out / "team.yaml").exists() and not (out / STAGES[0] / MARKER).exists():
        raise UsageError(f"{out / 'team.yaml'} exists and no build made it: give another --output")


def finished(digest: str, stage: BuildStage, out: Path) -> bool:
    """Is the stage complete under `out` with exactly these settings?"""
    return read_digest(out / stage / MARKER) == digest


def sample_text(recipe: Recipe, stage: BuildStage | Literal["card"]) -> str:
    """A sample of the texts that a stage and the stages before it read, and the vocabulary."""
    world = World(recipe.seed)
    texts = [*words(), *islice(documents(world, Random(0)), 500)]
    if stage != "pretrained":
        texts += [f"{i.question} {i.worked}" for i in lessons(world, recipe.tuning.mix, 500, 0)]
    if stage == "card":
        texts += [
            query.text or "" for task in tasks(world).values() for query in task.queries("dev")
        ]
    return "\n".join(texts)


def _stage(
    recipe: Recipe, stage: BuildStage, out: Path, title: str, say: Callable[[str], None]
) -> None:
    title = title.replace("[", r"\[")
    digest = recipe.digest(stage, sample_text(recipe, stage))
    if finished(digest, stage, out):
        say(f"{title}: done before")
        return
    say(f"{title} …")
    began = time.monotonic()
    with atomic_folder(out / stage, replace=True) as draft:
        _train(recipe, stage, out, draft)
        shutil.rmtree(draft / "trainer", ignore_errors=True)
        seconds = round(time.monotonic() - began, 1)
        marker = {"stage": stage, "digest": digest, "seconds": seconds}
        write_text(draft / MARKER, json.dumps(marker, indent=1) + "\n")
    say(f"{title}: {seconds:.0f} s")


def _train(recipe: Recipe, stage: BuildStage, out: Path, partial: Path) -> None:
    if stage == "pretrained":
        from recipes.pocket.pretrain import pretrain

        pretrain(recipe, partial)
    elif stage == "sft":
        from recipes.pocket.sft import tune

        tune(recipe, out / "pretrained", partial)
    elif stage == "aligned":
        from recipes.pocket.align import align

        align(recipe, out / "sft", partial)
    elif stage == "labels":
        label(recipe, out, partial)
    else:
        train_switchers(recipe, out, partial)
