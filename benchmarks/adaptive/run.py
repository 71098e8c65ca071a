"""Patches that end by a rule compared with fixed sizes: labels, heads, answers, step by step.

    python -m benchmarks.adaptive.run WORK [--only PATTERN …] [--list] [--dev N] [--test N SEEDS]

A step is one command with one output in WORK. A step with an existing output is skipped, so the
same command continues after a stop, and several commands with different patterns may run at the
same time. Settings are chosen on dev: `python -m benchmarks.adaptive.report WORK --choose` writes
WORK/chosen.json, which names the steps of test. The best fixed size and each rule are measured
again after their heads were trained on reward under them. Without `--choose`, the report prints the
tables and the plot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.adaptive import measure
from recipes.steps import Step, perform_steps, step_options
from taketurns.pocket.tasks import CATEGORIES

PREFIXES = 80  # a task
SIZES = (2, 4, 8, 16, 32, 64)
DEV = ("40", "1")  # questions a task, seeds
TEST = ("60", "3")
STEPS = "44"  # of policy gradient
# Faster; tokens may then depend on the batch.
ENGINE = ("--set", "engine.deterministic=false", "--set", "engine.max_batch=256")
ANYWHERE = ("switcher", {"min": 4, "max": 32})

RuleKnobs = tuple[str, Mapping[str, float]]
"""A rule and its settings; "fixed" has a `size`."""


def settings() -> dict[str, RuleKnobs]:
    """The compared settings, by name."""
    named: dict[str, RuleKnobs] = {f"fixed-{size}": ("fixed", {"size": size}) for size in SIZES}
    named["random-4-32"] = ("random", {"min": 4, "max": 32})
    for least in (2, 8):
        named[f"sentence-{least}"] = ("sentence", {"min": least, "max": 32})
    for rise in (0.25, 0.5, 1.0):
        named[f"uncertainty-{rise:g}"] = ("uncertainty", {"min": 4, "max": 32, "rise": rise})
    for least, margin, dwell in ((4, 0.2, 2), (8, 0.0, 1), (8, 0.2, 2), (8, 0.4, 2), (12, 0.2, 2)):
        knobs = {"min": least, "max": 32, "margin": margin, "dwell": dwell}
        named[f"switcher-{margin:g}-{dwell}-{least}"] = ("switcher", knobs)
    return named


def flags(setting: RuleKnobs) -> tuple[str, ...]:
    """The setting on a command line."""
    rule, knobs = setting
    if rule == "fixed":
        return ("--set", f"policy.patch_size={knobs['size']:g}")
    changed = {"until": rule, **knobs}
    return tuple(p for key, v in changed.items() for p in ("--set", f"policy.patch.{key}={v}"))


def steps(work: Path, dev: tuple[str, str] = DEV, test: tuple[str, str] = TEST) -> Iterator[Step]:
    """The steps, each after the steps that it needs."""
    yield from labels(work)
    for cuts, how in (("boundary", ()), ("anywhere", flags(ANYWHERE))):
        learned, out = work / f"labels-{cuts}.jsonl", work / "switchers" / cuts
        command = ("taketurns", "train", "--team", "pocket", "--switcher", "head", "--labels")
        more = (str(learned), "--output", str(out), *how)
        yield Step(f"train-{cuts}", (*command, *more), out / "metrics.json")
    for name, setting in settings().items():
        for head in heads(setting):
            yield answers(work, "dev", f"{name}-{head}", setting, head, dev)
    chosen = work / "chosen.json"
    report = (sys.executable, "-m", "benchmarks.adaptive.report", str(work), "--choose")
    yield Step("choose", report, chosen)
    if chosen.exists():
        names = json.loads(chosen.read_text(encoding="utf-8"))
        for name in names["test"]:
            setting, _, head = name.rpartition("-")
            yield answers(work, "test", name, settings()[setting], head, test)
        for name in names["practised"]:
            setting, _, head = name.rpartition("-")
            yield from on_reward(work, name, settings()[setting], head, test)


def heads(setting: RuleKnobs) -> tuple[str, ...]:
    """Fixed sizes are tried with two heads; only one was trained on states inside patches."""
    return ("boundary", "anywhere") if setting[0] == "fixed" else ("anywhere",)


def labels(work: Path) -> Iterator[Step]:
    """Labels with the same number of prefixes cut at patch boundaries and at any token."""
    whole = work / "labels-boundary.jsonl"
    command = ("taketurns", "rollout", "--k", "4", "--concurrency", "128")
    count = str(PREFIXES * len(CATEGORIES))
    yield Step(whole.stem, (*command, "--prefixes", count, "--output", str(whole)), whole)
    parts = []
    for task in CATEGORIES:
        part = work / "labels" / f"{task}.jsonl"
        how = ("--task", task, "--prefixes", str(PREFIXES), "--cuts", "anywhere")
        more = (*how, *flags(ANYWHERE), *ENGINE, "--output", str(part))
        yield Step(f"labels-{task}", (*command, *more), part)
        parts.append(str(part))
    joined = work / "labels-anywhere.jsonl"
    yield Step(joined.stem, ("cat", *parts), joined)


def on_reward(
    work: Path, name: str, setting: RuleKnobs, head: str, size: tuple[str, str]
) -> Iterator[Step]:
    """Train the setting's head on reward under the setting, then answer the test questions."""
    start, better = work / "switchers" / head, f"{name}-practised"
    out = work / "switchers" / better
    command = ("taketurns", "train", "--method", "policy-gradient", "--steps", STEPS)
    plain = ("--set", "policy.patch=null") if setting[0] == "fixed" else ()
    how = ("--team", str(start), *plain, *flags(setting), "--output", str(out))
    yield Step(f"practise-{name}", (*command, *how), out / "metrics.json")
    yield answers(work, "test", name, setting, better, size, folder="practised")


def answers(
    work: Path,
    split: str,
    name: str,
    setting: RuleKnobs,
    head: str,
    size: tuple[str, str],
    folder: str | None = None,
) -> Step:
    """Score and cost of a setting's answers, in WORK/SPLIT/NAME.json or another folder."""
    folder = folder or split
    output = work / folder / f"{name}.json"
    how = ("--split", split, "--limit", size[0], "--seeds", size[1], *flags(setting), *ENGINE)
    arguments = (str(work / "switchers" / head), *how, "--output", str(output))
    command = (sys.executable, "-m", "benchmarks.adaptive.measure", *arguments)
    # In this process, so that torch is imported once.
    return Step(f"{folder}-{name}", command, output, partial(measure.main, arguments))


def main() -> None:
    """Make the missing outputs."""
    parser = step_options(__doc__)
    parser.add_argument("--dev", metavar="N", default=DEV[0], help="questions a task")
    parser.add_argument("--test", nargs=2, metavar=("N", "SEEDS"), default=TEST)
    options = parser.parse_args()
    perform_steps(steps(options.work, (options.dev, DEV[1]), tuple(options.test)), options)


if __name__ == "__main__":
    main()
