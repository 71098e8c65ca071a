"""All figures of docs/results/ about trained switchers, step by step.

    python -m benchmarks.switching.run WORK [--only PATTERN …] [--list]

A step is one `taketurns` command with one output in WORK. A step with an existing output is
skipped, so the same command continues after a stop. `benchmarks.switching.report` makes the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from recipes.steps import Step, perform_steps, step_options
from taketurns.pocket.tasks import CATEGORIES
from taketurns.utils.files import write_text

SINGLES = "pretrained,sft,aligned"
CURVE = (260, 520, 1040, 1560)
PATCHES = (1, 4, 8, 32)  # in addition to the default of 16
REWARD_STEPS = {"head-1040": 44, "head": 74, "lm": 60}  # steps from each start
DEV, TEST = ("--split", "dev"), ("--split", "test")


def steps(work: Path) -> Iterator[Step]:
    """The steps, each after the steps that it needs."""
    yield from labels(work)
    yield from switchers(work)
    yield from rounds(work)
    yield from on_reward(work)
    yield from on_dev(work)
    yield from on_test(work)
    yield from transfers(work)


def labels(work: Path) -> Iterator[Step]:
    """Rollouts on random traces: for all questions, for fewer, and with shorter patches."""
    every = work / "labels.jsonl"
    yield rollout("labels", every, "--prefixes", "2600")
    for prefixes in CURVE:
        part = work / f"labels-{prefixes}.jsonl"
        yield Step(part.stem, ("head", "-n", str(prefixes), str(every)), part)
    path = work / "labels-patch8.jsonl"
    yield rollout(path.stem, path, "--prefixes", "1560", "--set", "policy.patch_size=8")
    rules = work / "labels-rules.jsonl"
    command = ("taketurns", "pocket", "relabel", "--labels", str(every), "--output", str(rules))
    yield Step(rules.stem, command, rules)


def rollout(name: str, path: Path, *more: str, team: str = "pocket") -> Step:
    """Rollouts with four per branch."""
    command = ("taketurns", "rollout", "--team", team, "--world", "0", "--k", "4")
    return Step(name, (*command, "--output", str(path), "--concurrency", "128", *more), path)


def switchers(work: Path) -> Iterator[Step]:
    """The switchers trained on them. A name says how a switcher differs from the default head."""
    head, lm = ("--switcher", "head"), ("--switcher", "lm")
    for prefixes in CURVE:
        yield train(work, f"head-{prefixes}", f"labels-{prefixes}", *head)
    yield train(work, "head", "labels", *head)
    yield train(work, "head-hard", "labels", *head, "--targets", "hard")
    yield train(work, "head-soft", "labels", *head, "--targets", "soft")
    yield train(work, "head-last-layer", "labels", *head, "--layer", "-1")
    for reader in SINGLES.split(","):
        how = (*head, "--mode", "candidate", "--reader", reader)
        yield train(work, f"head-{reader}", "labels", *how)
    yield train(work, "head-rules", "labels-rules", *head)
    yield train(work, "head-patch8", "labels-patch8", *head, "--set", "policy.patch_size=8")
    yield train(work, "lm", "labels", *lm)
    yield train(work, "lm-hard", "labels", *lm, "--targets", "hard")
    yield train(work, "lm-soft", "labels", *lm, "--targets", "soft")
    yield train(work, "lm-lora", "labels", *lm, "--lora")
    small = work / "small" / "pretrained"
    yield Step("small", (), small, partial(build_small, small.parent))
    yield train(work, "lm-small", "labels", *lm, "--start", str(small), "--full")
    for task in CATEGORIES:
        yield train(work, f"tasks/{task}", "labels", *head, "--task", task)
        others = [part for other in CATEGORIES if other != task for part in ("--task", other)]
        yield train(work, f"without/{task}", "labels", *head, *others)


def train(work: Path, name: str, learned: str, *how: str) -> Step:
    """A switcher in WORK/switchers/NAME."""
    output = work / "switchers" / name
    command = ("taketurns", "train", "--team", "pocket", "--labels", f"{work / learned}.jsonl")
    return Step(f"train-{name}", (*command, "--output", str(output), *how), output / "metrics.json")


def rounds(work: Path) -> Iterator[Step]:
    """Labels on traces that the head of the first round wrote, all or every other one; and a third
    round after the second."""
    for name, before, traces in (
        ("mixed", "head", "mixed"),
        ("second", "head", "on-policy"),
        ("third", "head-second", "on-policy"),
    ):
        path, team = work / f"labels-{name}.jsonl", work / "switchers" / before
        more = ("--prefixes", "2600", "--traces", traces)
        yield rollout(path.stem, path, *more, team=str(team))
        yield train(work, f"head-{name}", path.stem, "--switcher", "head")


def on_reward(work: Path) -> Iterator[Step]:
    """Policy gradient from trained switchers, for the number of tokens that labels would cost: the
    head of 1,040 labels up to the cost of 2,600, that of 2,600 up to the cost of a second round."""
    for start, steps in REWARD_STEPS.items():
        output = work / "switchers" / f"{start}-practised"
        command = ("taketurns", "train", "--method", "policy-gradient", "--steps", str(steps))
        team = ("--team", str(work / "switchers" / start), "--output", str(output))
        yield Step(f"train-{output.name}", (*command, *team), output / "metrics.json")


def on_dev(work: Path) -> Iterator[Step]:
    """The scores on dev for choosing settings."""
    for name, some in (
        ("labels", [*(f"head-{prefixes}" for prefixes in CURVE), "head"]),
        ("targets", ["head", "head-hard", "head-soft"]),
        ("reading", ["head", "head-last-layer", *(f"head-{name}" for name in SINGLES.split(","))]),
        ("rounds", ["head", "head-mixed", "head-second", "head-third", "head-rules"]),
        ("lms", ["lm", "lm-hard", "lm-soft", "lm-lora", "lm-small"]),
    ):
        yield score(work, f"dev-{name}", "random", some, *DEV, "--limit", "60", "--seeds", "2")


def on_test(work: Path) -> Iterator[Step]:
    """The reported scores on test."""
    by_task = ("--switchers", str(work / "switchers" / "tasks"))
    main = f"{SINGLES},random,untuned,switch-task"
    wide = (*TEST, "--limit", "100", "--seeds", "5")
    yield score(work, "main", main, ["head", "lm"], *wide, *by_task)
    narrow = (*TEST, "--limit", "60", "--seeds", "3")
    some = ["lm-small", "head-last-layer", "head-aligned", "head-rules", "head-second"]
    yield score(work, "kinds", "random", ["head", "lm", *some], *narrow)
    some = ["head-1040", *(f"{start}-practised" for start in REWARD_STEPS)]
    yield score(work, "practised", "", ["head", "head-second", "lm", *some], *narrow)
    again = ("--set", "policy.seed=1000")
    yield score(work, "control", f"{SINGLES},random", [], *wide, *again)
    for size in PATCHES:
        resized = ("--set", f"policy.patch_size={size}")
        remade = ["head-patch8"] if size == 8 else []
        yield score(work, f"patch-{size}", "random", ["head", *remade], *narrow, *resized)
    for name, setting in (("greedy", "greedy_switcher=true"), ("1.0", "top_p=1.0")):
        yield score(work, f"top-p-{name}", "", ["head"], *narrow, "--set", f"policy.{setting}")


def transfers(work: Path) -> Iterator[Step]:
    """The scores of switchers on tasks, orders and pipelines that they were not trained on."""
    narrow = (*TEST, "--limit", "60", "--seeds", "3")
    for task in CATEGORIES:
        here = ("--task", task)
        yield score(work, f"without/{task}", "random", [f"without/{task}"], *narrow, *here)
    other = work / "permuted" / "team.yaml"
    yield Step("permuted", (), other, partial(write_permuted, other))
    how = (*narrow, "--team", str(other))
    yield score(work, "permuted", f"{SINGLES},random", ["head", "lm"], *how)
    for name, world in (("llama-1", 1), ("llama-2", 2), ("qwen3-0", 0)):
        team = work / "pipelines" / name
        there = ("--team", str(team), "--world", str(world))
        methods = f"{SINGLES},random,untuned,switch-global,switch-practised,switch-lm"
        yield score(work, f"pipeline-{name}", methods, ["head", "lm"], *narrow, *there)


def score(work: Path, name: str, methods: str, trained: list[str], *how: str) -> Step:
    """Every answer's score in WORK/scores/NAME.json; `trained` are switchers by method name."""
    output = work / "scores" / f"{name}.json"
    named = ",".join([*filter(None, methods.split(",")), *trained])
    folders = [f"{method}={work / 'switchers' / method}" for method in trained]
    switchers = [part for folder in folders for part in ("--switcher", folder)]
    command = ("taketurns", "pocket", "score", "--methods", named, *switchers, *how)
    return Step(f"score-{name}", (*command, "--values", str(output)), output)


def build_small(folder: Path) -> None:
    """A pretrained checkpoint half as wide as the bundled one, after half as many steps."""
    from recipes.pocket.build import build
    from recipes.pocket.recipe import ModelShape, Pretraining, Recipe

    recipe = Recipe(shape=ModelShape(width=64, inner=192), pretraining=Pretraining(steps=1200))
    build(folder, recipe=recipe, until="pretrained")


def write_permuted(path: Path) -> None:
    """A team file of the bundled candidates in another order."""
    from taketurns.config.loading import load_team_config
    from taketurns.config.team_file import team_yaml

    team = load_team_config("pocket")
    first, second, third = team.candidates
    permuted = replace(team, candidates=(third, first, second))
    write_text(path, team_yaml(permuted, {"kind": "random"}, path.parent))


if __name__ == "__main__":
    options = step_options(__doc__).parse_args()
    perform_steps(steps(options.work), options)
