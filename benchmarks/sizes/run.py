"""Candidates of three sizes, each token with a price: what does a team save?

    python benchmarks/sizes/run.py WORK

Three tuned models 64, 128 and 256 numbers wide, from the same text by the same recipe (the one of
128 is the bundled SFT checkpoint, which that recipe makes); rollouts, a head, and from it one head
for each price by policy gradient; then answers to test questions by each model alone, by random
switching and by each head, and a plot of score against cost. The cost is that of written tokens,
as the price is; what a team reads of each other's is not in it. A step whose output is there is
skipped, so the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

WIDTHS = {"small": 64, "medium": 128, "large": 256}
PRICES = (0.0, 0.003, 0.01)  # of a token of the large model
ASKED = ("--limit", "60", "--seeds", "3")


def build(folder: Path, width: int) -> None:
    """A pretrained and a tuned model of this width, or the bundled one, which is the same."""
    from recipes.pocket.build import build as whole
    from recipes.pocket.recipe import Recipe

    recipe = Recipe()
    if width == recipe.shape.width:
        shutil.copytree(files("taketurns.pocket") / "weights" / "sft", folder / "sft")
        return
    shape = replace(recipe.shape, width=width, inner=3 * width)
    whole(folder, recipe=replace(recipe, shape=shape), until="sft")


def parameters(folder: Path) -> int:
    """Of a model in float32 or less."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                total += size
    return total


def prices(work: Path, large: float) -> dict[str, float]:
    """A token's price by model, in proportion to the parameters that compute it."""
    sizes = {name: parameters(work / name / "sft") for name in WIDTHS}
    return {name: large * size / sizes["large"] for name, size in sizes.items()}


def taketurns(*words: object) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", "taketurns", *map(str, words)], check=True)


def steps(work: Path) -> Iterator[tuple[Path, Any]]:
    """(what is made, by what), in order."""
    for name, width in WIDTHS.items():
        yield work / name / "sft" / "config.json", lambda n=name, w=width: build(work / n, w)
    team = work / "team.yaml"
    yield team, lambda: team.write_text(described(work), encoding="utf-8")
    labels = work / "labels.jsonl"
    yield (
        work / "labels.done",
        lambda: (
            taketurns(
                "rollout", "--team", team, "--world", 0, "--k", 4, "--prefixes", 1300, "-o", labels
            ),
            (work / "labels.done").touch(),
        ),
    )
    head = work / "head"
    train = ("train", "--team", team, "--labels", labels, "--switcher", "head", "-o", head)
    yield head / "metrics.json", lambda: taketurns(*train)
    for large in PRICES:
        out = work / f"priced-{large:g}"
        yield out / "metrics.json", lambda out=out, large=large: practise(work, head, out, large)
    trained = {out.name: out for out in (head, *(work / f"priced-{x:g}" for x in PRICES))}
    for method in (*WIDTHS, "random", *trained):
        path = work / "answers" / f"{method}.jsonl"
        yield path, lambda m=method, p=path: answer(work, m, trained.get(m), p)
    yield work / "frontier.json", lambda: frontier(work, [*WIDTHS, "random", *trained])


def described(work: Path) -> str:
    """The team file."""
    lines = ["candidates:"]
    for name in WIDTHS:
        lines += [f"- name: {name}", f"  model: {(work / name / 'sft').resolve()}"]
    return "\n".join([*lines, "policy: {patch_size: 16, max_tokens: 200}", ""])


def practise(work: Path, head: Path, out: Path, large: float) -> None:
    """Policy gradient from the head, at these prices."""
    given = [f"{name}={price:.8f}" for name, price in prices(work, large).items()]
    flags = [part for one in given for part in ("--price", one)] if large else []
    method = ("--method", "policy-gradient", "--steps", 30)
    taketurns("train", *method, "--team", head, "-o", out, *flags)


def answer(work: Path, method: str, folder: Path | None, path: Path) -> None:
    """The score of every answer to test questions, and its tokens by model."""
    import asyncio

    from taketurns import Team
    from taketurns.config.team_config import load_team_config
    from taketurns.pocket import TASKS
    from taketurns.runs.terminal import Progress

    async def ask() -> list[dict[str, Any]]:
        config = load_team_config(folder or work / "team.yaml")
        whole = Team.load(config)
        team = whole.alone(method) if method in WIDTHS else whole
        free = asyncio.Semaphore(256)
        limit, seeds = int(ASKED[1]), int(ASKED[3])
        asked = [
            (task, query, seed)
            for task in TASKS.values()
            for query in task.queries("test")[:limit]
            for seed in range(seeds)
        ]
        with Progress(method, len(asked)) as progress:

            async def one(task: Any, query: Any, seed: int) -> dict[str, Any]:
                async with free:
                    trace = await team.agenerate(query, seed=seed)
                assert trace.error is None, trace.error
                names = [candidate.name for candidate in team.candidates]
                tokens = dict.fromkeys(WIDTHS, 0)
                for patch in trace.patches:
                    tokens[names[patch.speaker or 0]] += len(patch.token_ids)
                progress.advance(trace.tokens)
                score = task.score(query, trace.text).value or 0.0
                return {"task": task.name, "query": query.id, "score": score, "tokens": tokens}

            async with whole:
                return list(await asyncio.gather(*(one(*each) for each in asked)))

    made = asyncio.run(ask())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in made), encoding="utf-8")


def frontier(work: Path, methods: list[str]) -> None:
    """Score and cost of each method, with intervals over questions, as JSON and as a plot."""
    price = prices(work, 1.0)
    found = {m: point(work / "answers" / f"{m}.jsonl", price) for m in methods}
    plot(found, work / "frontier.png")
    document = {"parameters": {n: parameters(work / n / "sft") for n in WIDTHS}, "test": found}
    (work / "frontier.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for method, one in found.items():
        low, high = one["interval"]
        print(
            f"{method:14} score {one['score']:.3f} ({low:.3f}-{high:.3f})  cost {one['cost']:.1f}"
        )


def point(path: Path, price: Mapping[str, float]) -> dict[str, Any]:
    """The mean over tasks of the score, bootstrapped over questions within tasks, and the mean cost
    of an answer in tokens of the large model."""
    import numpy as np

    from taketurns.evaluation.statistics import FEW_RESAMPLES, PERCENT_TAIL, percentile_interval

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        scores.setdefault(row["task"], {}).setdefault(row["query"], []).append(row["score"])
    means = {task: np.array([fmean(s) for s in asked.values()]) for task, asked in scores.items()}
    draw = np.random.default_rng(0)
    drawn = [
        fmean(float(draw.choice(one, len(one)).mean()) for one in means.values())
        for _ in range(FEW_RESAMPLES)
    ]
    cost = [sum(price[name] * count for name, count in row["tokens"].items()) for row in rows]
    return {
        "score": fmean(float(one.mean()) for one in means.values()),
        "interval": [float(end) for end in percentile_interval(np.array(drawn), PERCENT_TAIL)],
        "cost": fmean(cost),
        "tokens": {n: fmean(row["tokens"][n] for row in rows) for n in WIDTHS},
    }


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Score against cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for method, one in found.items():
        alone = method in WIDTHS
        low, high = one["interval"]
        error = [[one["score"] - low], [high - one["score"]]]
        marker = "s" if alone else "o"
        axes.errorbar(one["cost"], one["score"], error, fmt=marker, capsize=3, label=method)
        at, rise, side = (low, -4, "top") if alone else (high, 4, "bottom")
        axes.annotate(
            method, (one["cost"], at), xytext=(0, rise), textcoords="offset points",
            ha="center", va=side,
        )  # fmt: skip
    axes.set_xlabel("price of what is written, in tokens of the large model")
    axes.set_ylabel("score, mean over tasks, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    for output, make in steps(work):
        if not output.exists():
            began = time.monotonic()
            make()
            print(f"{output.relative_to(work)}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
