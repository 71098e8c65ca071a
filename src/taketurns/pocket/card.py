"""The model card of a build: how each checkpoint was made and what it scores alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.pocket.recipe import STAGES, Recipe
from taketurns.pocket.tasks import tasks
from taketurns.pocket.world import World
from taketurns.seeds import derive

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1


def write_card(recipe: Recipe, digest: str, out: Path, console: Console) -> None:
    """Measure the three checkpoints under `out` and write card.json and card.md beside them."""
    from taketurns.pocket.measure import measure

    target = out / "card.json"
    if _digest(target) == digest:
        console.print(r"\[4/4] card: done before")
        return
    console.print(r"\[4/4] card …")
    every = list(tasks(World(recipe.seed)).values())
    seed = derive(recipe.seed, "pocket", "card")
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("measuring", total=2 * len(every) * len(STAGES))
        scores = {
            stage: [
                asdict(figure)
                for figure in progress.track(
                    measure(out / stage, every, recipe.measuring, seed), task_id=bar
                )
            ]
            for stage in STAGES
        }
    seconds = {s: json.loads((out / s / "stage.json").read_text())["seconds"] for s in STAGES}
    card = {
        "schema": SCHEMA,
        "digest": digest,
        "recipe": asdict(recipe),
        "seconds": seconds,
        "versions": _versions(),
        "scores": scores,
    }
    (out / "card.md").write_text(
        _markdown(card, {t.name: t.category for t in every}), encoding="utf-8"
    )
    target.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _digest(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text())["digest"])
    except (OSError, ValueError, KeyError):
        return None


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl", "tokenizers")}


def _markdown(card: dict[str, Any], categories: dict[str, str]) -> str:
    recipe, sampling = card["recipe"], card["recipe"]["measuring"]
    p, t, a = recipe["pretraining"], recipe["tuning"], recipe["alignment"]
    tokens = p["steps"] * p["batch"] * p["block"]
    lines = [
        "# The pocket trio",
        "",
        f"Three checkpoints of one small Llama, trained one after another on the invented world of "
        f"seed {recipe['seed']}, with {recipe['threads']} threads.",
        "",
        f"- **pretrained** ({card['seconds']['pretrained']:.0f} s): next-token prediction on "
        f"{tokens / 1e6:.1f} M tokens of the world's text, {p['steps']} steps.",
        f"- **sft** ({card['seconds']['sft']:.0f} s): supervised tuning on {t['examples']} "
        f"questions about a third of the world, answers worked out, {t['epochs']} epochs.",
        f"- **aligned** ({card['seconds']['aligned']:.0f} s): GRPO with verifiable rewards, "
        f"{a['steps']} steps of {a['prompts']} questions with {a['answers']} answers each.",
        "",
        f"One sampled answer a question, temperature {sampling['temperature']}, top-p "
        f"{sampling['top_p']}, at most {sampling['budget']} tokens; {sampling['questions']} "
        f"questions a task and split; 95 % Wilson intervals.",
    ]
    for split in ("test", "dev"):
        lines += ["", f"## Alone, {split}", "", "| task | category | pretrained | sft | aligned |"]
        lines += ["|---|---|---|---|---|"]
        for task, category in categories.items():
            cells = [
                f"{f['right'] / f['questions']:.3f} ({f['low']:.3f}-{f['high']:.3f})"
                for stage in STAGES
                for f in card["scores"][stage]
                if f["task"] == task and f["split"] == split
            ]
            lines.append(f"| {task} | {category} | {' | '.join(cells)} |")
        means = [
            sum(f["right"] / f["questions"] for f in card["scores"][s] if f["split"] == split)
            / len(categories)
            for s in STAGES
        ]
        lines.append(f"| **average** | | {' | '.join(f'**{m:.3f}**' for m in means)} |")
    return "\n".join(lines) + "\n"
