"""The model card of a build: how each part was made, and what it scores alone and together."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.pocket.recipe import CHECKPOINTS, STAGES, Recipe
from taketurns.config.team_config import load_team_config
from taketurns.evaluation.methods.trained import BY_TASK, GLOBAL, LM, PRACTISED
from taketurns.pocket.score import RANDOM, Methods, score
from taketurns.pocket.tasks import PocketTask, tasks
from taketurns.pocket.world import World
from taketurns.utils.files import write_text
from taketurns.utils.seeds import derive

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1


def write_card(recipe: Recipe, digest: str, out: Path, title: str, console: Console) -> None:
    """Measure what is under `out` and write card.json and card.md beside it."""
    from recipes.pocket.measure import measure

    target, title = out / "card.json", title.replace("[", r"\[")
    if _digest(target) == digest:
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
    """What switched answers score on the test questions, one answer each."""
    from taketurns.runs.terminal import Progress

    asked = [task for task in every if (out / "switchers" / task.name).is_dir()]
    named = [RANDOM, GLOBAL, PRACTISED, LM, *([BY_TASK] if asked else [])]
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
        f"Three checkpoints of one small model ({recipe['shape']['architecture']}), trained one "
        f"after another on the invented world of seed {recipe['seed']}, on {recipe['threads']} "
        "thread.",
        "",
        f"- **pretrained** ({card['seconds']['pretrained']:.0f} s): next-token prediction on "
        f"{tokens / 1e6:.1f} M tokens of the world's text, {p['steps']} steps.",
        f"- **sft** ({card['seconds']['sft']:.0f} s): supervised tuning on {t['examples']} "
        f"questions about a third of the world, answers worked out, {t['epochs']} epochs.",
        f"- **aligned** ({card['seconds']['aligned']:.0f} s): GRPO with verifiable rewards, "
        f"{a['steps']} steps of {a['prompts']} questions with {a['answers']} answers each.",
        f"- **switchers** (labels {card['seconds']['labels']:.0f} s, training "
        f"{card['seconds']['switchers']:.0f} s): learned from {recipe['labelling']['prefixes']} "
        f"prefixes with {recipe['labelling']['k']} rollouts a branch; `practised`, the team's own, "
        f"is the global head after up to {recipe['switching']['steps']} steps of policy gradient.",
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
                for stage in CHECKPOINTS
                for f in card["scores"][stage]
                if f["task"] == task and f["split"] == split
            ]
            lines.append(f"| {task} | {category} | {' | '.join(cells)} |")
        means = [
            sum(f["right"] / f["questions"] for f in card["scores"][s] if f["split"] == split)
            / len(categories)
            for s in CHECKPOINTS
        ]
        lines.append(f"| **average** | | {' | '.join(f'**{m:.3f}**' for m in means)} |")
    together = card["together"]
    lines += [
        "",
        "## Together, test",
        "",
        f"{recipe['measuring']['together']} questions a task, one answer each, 95 % intervals.",
        "",
        f"| task | {' | '.join(together)} |",
        f"|---|{'---|' * len(together)}",
    ]
    for task in [*categories, "average"]:
        cells = [
            f"{x['mean']:.3f} ({x['low']:.3f}-{x['high']:.3f})"
            for x in (scores[task] for scores in together.values())
        ]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
