"""The tables of docs/results.md from what `run.py` left in WORK.

    python benchmarks/switching/report.py WORK

Differences are paired by question: a question's value is its mean over seeds, the interval is a BCa
bootstrap over questions, the p-value a paired permutation test (scipy), Holm-corrected within a
table (statsmodels).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from taketurns.evaluation.statistics import holm
from taketurns.evaluation.unsolved_coverage import Round, unsolved_coverage
from taketurns.pocket.score import AVERAGE, MethodScores, Share

SINGLES = ("pretrained", "sft", "aligned")
RESAMPLES = 4999  # the tables of docs/results.md were drawn by so many

Floats = NDArray[np.float64]
Values = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two methods over the same questions: mean, 95 % interval, p before correction."""

    mean: float
    low: float
    high: float
    p: float


def read(work: Path, name: str) -> Values:
    """{method: {task: [[a score a seed] a question]}}; empty where it is not made yet."""
    path = work / "scores" / f"{name}.json"
    found: Values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def by_question(tasks: Mapping[str, Sequence[Sequence[float]]]) -> Floats:
    """Every question's mean over seeds; tasks have equally many questions, so their mean is the
    average over tasks."""
    return np.array([np.mean(seeds) for answers in tasks.values() for seeds in answers])


def difference(one: Floats, other: Floats) -> Difference:
    """One less the other."""
    gaps = one - other
    if not gaps.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    found = stats.bootstrap(
        (gaps,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    test = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=RESAMPLES,
        vectorized=True, rng=np.random.default_rng(0),
    )  # fmt: skip
    return Difference(float(gaps.mean()), float(found.low), float(found.high), float(test.pvalue))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(share: Share) -> str:
    """A mean and its interval."""
    return f"{share.mean:.3f} ({share.low:.3f}-{share.high:.3f})"


def by_task(values: Values) -> str:
    """A row a task, a column a method."""
    shares = MethodScores(values).shares()
    tasks = next(iter(shares.values()))
    rows = [
        [f"**{task}**" if task == AVERAGE else task, *(cell(own[task]) for own in shares.values())]
        for task in tasks
    ]
    return table(["task", *shares], rows)


def averages(named: Mapping[str, Values]) -> str:
    """A row a method of each run, with what it gains over random switching in the same run."""
    rows, gaps = [], []
    for run, values in named.items():
        shares = MethodScores(values).shares()
        chance = by_question(values["random"]) if "random" in values else None
        for method, own in shares.items():
            rows.append([run, method, cell(own[AVERAGE])])
            gaps.append(None if chance is None else difference(by_question(values[method]), chance))
    for row, gap in zip(rows, gaps, strict=True):
        row.append("" if gap is None else f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
    return table(["run", "method", "average", "over random switching"], rows)


def against(values: Values, method: str) -> str:
    """What a method gains over every other on the same questions."""
    others = [other for other in values if other != method]
    own = by_question(values[method])
    found = [difference(own, by_question(values[other])) for other in others]
    corrected = holm([gap.p for gap in found])
    rows = [
        [
            other,
            f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})",
            f"{own.mean() / by_question(values[other]).mean() - 1:+.0%}",
            f"{p:.4f}",
        ]
        for other, gap, p in zip(others, found, corrected, strict=True)
    ]
    return table([f"{method} over", "absolute", "relative", "p (Holm)"], rows)


def beyond(values: Values, control: Values, methods: Sequence[str]) -> str:
    """Of the questions that no answer of any single checkpoint solves: how many does some answer of
    a method solve, beside as many new answers of each checkpoint and of random switching; and how
    many more the last method does."""
    again = {f"{name} again": flat(control[name]) for name in (*SINGLES, "random")}
    tries = {name: flat(values[name]) for name in methods} | again
    one = Round({name: flat(values[name]) for name in SINGLES}, tries)
    found = unsolved_coverage([one], methods[-1])
    if found is None:
        return "Some checkpoint solves every question.\n"
    less = {one.control: one for one in found.against}
    rows = [
        [own.name, f"{own.solved:.0f} of {found.left:.0f}",
         f"{own.share:.3f} ({own.low:.3f}-{own.high:.3f})",
         *([f"{gap.difference:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})", f"{gap.p_holm:.4f}"]
           if (gap := less.get(own.name)) else ["", ""])]
        for own in found.tried
    ]  # fmt: skip
    return table(["method", "solved", "share", f"{found.subject} less it", "p (Holm)"], rows)


def flat(tasks: Mapping[str, Sequence[Sequence[float]]]) -> list[Sequence[float]]:
    """Every question's answers, whatever its task."""
    return [seeds for answers in tasks.values() for seeds in answers]


def joined(by_task: Mapping[str, Values]) -> Values:
    """Random switching and the head that never saw the task, each task from its own run."""
    return {
        "random": {task: found["random"][task] for task, found in by_task.items()},
        "without": {task: found[f"without/{task}"][task] for task, found in by_task.items()},
    }


def main() -> None:
    """Print every table whose scores are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    work: Path = parser.parse_args().work
    if values := read(work, "main"):
        print("## Test\n", by_task(values), against(values, "head"), sep="\n")
        if control := read(work, "control"):
            print("## Beyond the singles\n")
            print(beyond(values, control, ["random", "untuned", "lm", "head"]))
    for title, names in (
        ("Dev", [f"dev-{what}" for what in ("labels", "targets", "reading", "rounds", "lms")]),
        ("Kinds", ["kinds"]),
        ("Patch sizes", ["patch-1", "patch-4", "patch-8", "kinds", "patch-32"]),
        ("Top-p over speakers", ["top-p-greedy", "top-p-1.0"]),
        ("Candidates in another order", ["permuted"]),
        ("Pipelines", ["pipeline-llama-1", "pipeline-llama-2", "pipeline-qwen3-0"]),
    ):
        found = {name: values for name in names if (values := read(work, name))}
        if title == "Patch sizes":  # of the switchers, only the one that was tried at every size
            shown = ("random", "head", "head-patch8")
            found = {
                name: {method: values[method] for method in shown if method in values}
                for name, values in found.items()
            }
        if found:
            print(f"## {title}\n", averages(found), sep="\n")
    if values := read(work, "practised"):
        print("## From reward\n", by_task(values), sep="\n")
        for method in ("head-practised", "head-1040-practised"):
            print(against(values, method))
    left_out = {
        path.stem: read(work, f"without/{path.stem}")
        for path in sorted((work / "scores" / "without").glob("*.json"))
    }
    if left_out:
        print("## One task left out\n", by_task(joined(left_out)), sep="\n")
        print(averages({"all tasks": joined(left_out)}))


if __name__ == "__main__":
    main()
