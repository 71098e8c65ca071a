"""The model card of a build: how each part was made, and its scores alone and together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.pocket.recipe import CHECKPOINTS, STAGES, Recipe, read_digest
from taketurns.config.loading import load_team_config
from taketurns.evaluation.methods.trained import BY_TASK, GLOBAL, LM, ON_REWARD
from taketurns.pocket.score import RANDOM, Methods, score
from taketurns.pocket.tasks import PocketTask, tasks
from taketurns.pocket.world import World
from taketurns.training.card import render
from taketurns.utils.files import write_text
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1


def write_card(recipe: Recipe, digest: str, out: Path, title: str, console: Console) -> None:
    """Measure the build under `out` and write its card.json and card.md."""
    from recipes.pocket.measure import measure

    target, title = out / "card.json", title.replace("[", r"\[")
    if read_digest(target) == digest:
        console.print(f"{title}: done before")
        return
    console.print(f"{title} …")
    every = list(tasks(World(recipe.seed)).values())
    seed = derive(recipe.seed, "pocket", "card")
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("alone", total=2 * len(every) * len(CHECKPOINTS))
        scores = {
            stage: [
                asdict(figure)
                for figure in progress.track(
                    measure(out / stage, every, recipe.measuring, seed), task_id=bar
                )
            ]
            for stage in CHECKPOINTS
        }
    seconds = {s: json.loads((out / s / "stage.json").read_text())["seconds"] for s in STAGES}
    card = {
        "schema": SCHEMA,
        "digest": digest,
        "recipe": asdict(recipe),
        "seconds": seconds,
        "versions": _versions(),
        "scores": scores,
        "together": asyncio.run(_together(out, every, recipe.measuring.together)),
    }
    write_text(out / "card.md", _markdown(card, {t.name: t.category for t in every}))
    write_text(target, json.dumps(card, indent=1) + "\n")


async def _together(out: Path, every: list[PocketTask], questions: int) -> dict[str, Any]:
    """Scores of switched answers on the test questions, one answer each."""
    from taketurns.runs.progress import Progress

    asked = [task for task in every if (out / "switchers" / task.name).is_dir()]
    named = [RANDOM, GLOBAL, ON_REWARD, LM, *([BY_TASK] if asked else [])]
    methods = Methods(load_team_config(out), named, [task.name for task in every])
    with Progress("together", len(named) * len(every) * questions) as progress:
        try:
            scores = await score(
                methods.teams,
                {task.name: task for task in every},
                limit=questions,
                on_done=progress.advance,
            )
        finally:
            await methods.engine.close()
    return scores.to_json()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl", "tokenizers")}


def _markdown(card: Mapping[str, Any], categories: Mapping[str, str]) -> str:
    """`categories` are the tasks', in the order of the tables."""
    figures: dict[tuple[str, ...], dict[str, Any]] = {
        (stage, figure["task"], figure["split"]): figure
        for stage in CHECKPOINTS
        for figure in card["scores"][stage]
    }
    right = {key: figure["right"] / figure["questions"] for key, figure in figures.items()}

    def cell(*key: str) -> str:
        low, high = figures[key]["low"], figures[key]["high"]
        return f"{right[key]:.3f} ({low:.3f}-{high:.3f})"

    return render(
        Path(__file__).with_name("card.md.j2"),
        **card,
        checkpoints=CHECKPOINTS,
        categories=categories,
        alone={
            split: [
                [task, category, *(cell(stage, task, split) for stage in CHECKPOINTS)]
                for task, category in categories.items()
            ]
            for split in ("test", "dev")
        },
        means={
            split: [
                f"**{sum(right[stage, task, split] for task in categories) / len(categories):.3f}**"
                for stage in CHECKPOINTS
            ]
            for split in ("test", "dev")
        },
    )
