"""The tables of docs/results/ from the output of `benchmarks.switching.run` in WORK.

    python -m benchmarks.switching.report WORK

Differences are paired by question (`evaluation/statistics.py`): a question's value is its mean over
seeds, the interval is a BCa bootstrap over questions, the p-value a paired permutation test,
Holm-corrected within a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from taketurns.evaluation.statistics import Share, average, holm, paired, share
from taketurns.evaluation.unsolved_coverage import Round, unsolved_coverage
from taketurns.utils.markdown import difference, interval, table

SINGLES = ("pretrained", "sft", "aligned")
DEV = ("labels", "targets", "reading", "rounds", "lms")
SIZED = ("random", "head", "head-patch8")  # the switchers at every patch size
RUNS = {
    "Dev": [f"dev-{what}" for what in DEV],
    "Kinds": ["kinds"],
    "Patch sizes": ["patch-1", "patch-4", "patch-8", "kinds", "patch-32"],
    "Top-p over speakers": ["top-p-greedy", "top-p-1.0"],
    "Candidates in another order": ["permuted"],
    "Pipelines": ["pipeline-llama-1", "pipeline-llama-2", "pipeline-qwen3-0"],
}

ScoresByTask = Mapping[str, Sequence[Sequence[float]]]
"""`[question][seed]` by task, the same number of questions per task."""
ScoresByMethod = Mapping[str, ScoresByTask]


def read(work: Path, name: str) -> ScoresByMethod:
    """The scores of a run by method; empty if the run does not exist yet."""
    path = work / "scores" / f"{name}.json"
    scores: ScoresByMethod = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return scores


def by_task(scores: ScoresByMethod) -> str:
    """A row per task, a column per method."""
    tasks = next(iter(scores.values()))
    rows = [[task, *(_share(share(method[task])) for method in scores.values())] for task in tasks]
    rows.append(["**average**", *(_share(average(method)) for method in scores.values())])
    return table(["task", *scores], rows)


def averages(runs: Mapping[str, ScoresByMethod]) -> str:
    """A row per method of each run, with its gain over random switching in the same run."""
    rows = [
        [run, method, _share(average(tasks)), _over(tasks, scores.get("random"))]
        for run, scores in runs.items()
        for method, tasks in scores.items()
    ]
    return table(["run", "method", "average", "over random switching"], rows)


def _share(mean: Share) -> str:
    return interval(mean.mean, mean.low, mean.high)


def _over(scores: ScoresByTask, chance: ScoresByTask | None) -> str:
    if chance is None:
        return ""
    gap = paired(scores, chance)
    return difference(gap.difference, gap.low, gap.high)


def against(scores: ScoresByMethod, method: str) -> str:
    """The gain of a method over every other on the same questions."""
    others = [other for other in scores if other != method]
    gaps = [paired(scores[method], scores[other]) for other in others]
    mean = average(scores[method]).mean
    rows = [
        [
            other,
            difference(gap.difference, gap.low, gap.high),
            f"{mean / average(scores[other]).mean - 1:+.0%}",
            f"{p:.4f}",
        ]
        for other, gap, p in zip(others, gaps, holm([gap.p for gap in gaps]), strict=True)
    ]
    return table([f"{method} over", "absolute", "relative", "p (Holm)"], rows)


def beyond(scores: ScoresByMethod, control: ScoresByMethod, methods: Sequence[str]) -> str:
    """How many of the questions that no answer of a single checkpoint solves are solved by each
    method, and by the same number of new answers of each checkpoint and of random switching; and
    how many more the last method solves."""
    again = {f"{name} again": flat(control[name]) for name in (*SINGLES, "random")}
    tries = {name: flat(scores[name]) for name in methods} | again
    coverage = unsolved_coverage(
        [Round({name: flat(scores[name]) for name in SINGLES}, tries)], methods[-1]
    )
    if coverage is None:
        return "Some checkpoint solves every question.\n"
    gaps = {gap.control: gap for gap in coverage.against}
    rows = []
    for tried in coverage.tried:
        solved = f"{tried.solved:.0f} of {coverage.left:.0f}"
        row = [tried.name, solved, interval(tried.share, tried.low, tried.high), "", ""]
        if gap := gaps.get(tried.name):
            row[3:] = [difference(gap.difference, gap.low, gap.high), f"{gap.p_holm:.4f}"]
        rows.append(row)
    return table(["method", "solved", "share", f"{coverage.subject} minus it", "p (Holm)"], rows)


def flat(tasks: ScoresByTask) -> list[Sequence[float]]:
    """The answers to every question, over all tasks."""
    return [seeds for answers in tasks.values() for seeds in answers]


def joined(runs: Mapping[str, ScoresByMethod]) -> ScoresByMethod:
    """Random switching and the head trained without the task, each task from its own run."""
    return {
        "random": {task: scores["random"][task] for task, scores in runs.items()},
        "without": {task: scores[f"without/{task}"][task] for task, scores in runs.items()},
    }


def main() -> None:
    """Print every table whose scores exist."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    work: Path = parser.parse_args().work
    if scores := read(work, "main"):
        print("## Test\n", by_task(scores), against(scores, "head"), sep="\n")
        if control := read(work, "control"):
            print("## Questions that no checkpoint solves alone\n")
            print(beyond(scores, control, ["random", "untuned", "lm", "head"]))
    for title, names in RUNS.items():
        runs = {name: scores for name in names if (scores := read(work, name))}
        if title == "Patch sizes":
            runs = {
                name: {method: scores[method] for method in SIZED if method in scores}
                for name, scores in runs.items()
            }
        if runs:
            print(f"## {title}\n", averages(runs), sep="\n")
    if scores := read(work, "practised"):
        print("## Trained on reward\n", by_task(scores), sep="\n")
        for method in ("head-practised", "head-1040-practised"):
            print(against(scores, method))
    left_out = {
        path.stem: read(work, f"without/{path.stem}")
        for path in sorted((work / "scores" / "without").glob("*.json"))
    }
    if left_out:
        print("## One task left out\n", by_task(joined(left_out)), sep="\n")
        print(averages({"all tasks": joined(left_out)}))


if __name__ == "__main__":
    main()
