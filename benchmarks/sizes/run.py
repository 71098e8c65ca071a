"""Candidates of three sizes with a price per token: what does a team save?

    python -m benchmarks.sizes.run WORK [--only PATTERN …] [--list]

Three tuned models with hidden sizes 64, 128 and 256, from the same text by the same recipe (that of
128 is the bundled SFT checkpoint); rollouts, a head, and from it one head per price by policy
gradient; then answers to test questions by each model alone, by random switching and by each head,
and a plot of score against cost. The cost is that of written tokens; tokens that candidates read of
each other are not in it. A step with an existing output is skipped, so the same command continues
after a stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.sizes.frontier import WIDTHS, answer, frontier, prices
from recipes.steps import Step, perform_steps, run_command, step_options
from taketurns.utils.files import atomic_folder

PRICES = (0.0, 0.003, 0.01)  # of a token of the large model


def steps(work: Path) -> Iterator[Step]:
    """The steps, each after the steps that it needs."""
    for name, width in WIDTHS.items():
        yield Step(name, (), work / name / "sft", partial(build, work / name, width))
    team, labels, head = work / "team.yaml", work / "labels.jsonl", work / "head"
    text = team_text(work)
    yield Step(team.name, (), team, lambda: team.write_text(text, encoding="utf-8"))
    how = ("--world", "0", "--k", "4", "--prefixes", "1300", "--output", str(labels))
    yield Step(labels.name, ("taketurns", "rollout", "--team", str(team), *how), labels)
    learn = ("--labels", str(labels), "--switcher", "head", "--output", str(head))
    train = ("taketurns", "train", "--team", str(team), *learn)
    yield Step(head.name, train, head / "metrics.json")
    for large in PRICES:
        out = work / f"priced-{large:g}"
        make = partial(train_on_reward, work, head, out, large)
        yield Step(out.name, (), out / "metrics.json", make)
    trained = {out.name: out for out in (head, *(work / f"priced-{x:g}" for x in PRICES))}
    methods = (*WIDTHS, "random", *trained)
    for method in methods:
        path = work / "answers" / f"{method}.jsonl"
        make = partial(answer, trained.get(method, team), method, path)
        yield Step(f"answers-{method}", (), path, make)
    yield Step("frontier", (), work / "frontier.json", partial(frontier, work, methods))


def build(folder: Path, width: int) -> None:
    """A pretrained and a tuned model of this width, or the bundled one of the same width."""
    import shutil
    from dataclasses import replace
    from importlib.resources import as_file, files

    from recipes.pocket.build import build as build_pipeline
    from recipes.pocket.recipe import Recipe

    recipe = Recipe()
    if width == recipe.shape.width:
        weights = files("taketurns.pocket") / "weights" / "sft"
        with as_file(weights) as bundled, atomic_folder(folder / "sft") as draft:
            shutil.copytree(bundled, draft, dirs_exist_ok=True)
        return
    shape = replace(recipe.shape, width=width, inner=3 * width)
    build_pipeline(folder, recipe=replace(recipe, shape=shape), until="sft")


def team_text(work: Path) -> str:
    """The team file."""
    lines = ["candidates:"]
    for name in WIDTHS:
        lines += [f"- name: {name}", f"  model: {(work / name / 'sft').resolve()}"]
    return "\n".join([*lines, "policy: {patch_size: 16, max_tokens: 200}", ""])


def train_on_reward(work: Path, head: Path, out: Path, large: float) -> None:
    """Policy gradient from the head, with this price of a token of the large model."""
    priced = [f"{name}={price:.8f}" for name, price in prices(work, large).items()]
    flags = [part for price in priced for part in ("--price", price)] if large else []
    method = ("--method", "policy-gradient", "--steps", 30)
    run_command(["taketurns", "train", *method, "--team", head, "--output", out, *flags])


if __name__ == "__main__":
    options = step_options(__doc__).parse_args()
    perform_steps(steps(options.work), options)
