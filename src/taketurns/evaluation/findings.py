"""The results of an evaluation: scores with intervals, comparisons with the subject, gains, costs.

They are plain JSON values, which `results.json` holds and the report is made from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taketurns.errors import UsageError
from taketurns.evaluation.cost_quality import alike, break_even, frontier, points
from taketurns.evaluation.methods.registry import Kind, MethodEntry
from taketurns.evaluation.results import MethodResult
from taketurns.evaluation.statistics import (
    ALPHA,
    average,
    combined,
    gain,
    holm,
    paired,
    share,
    spread,
    tally,
)
from taketurns.evaluation.unsolved_coverage import CHANCE, halved, unsolved_coverage

COSTS = ("tokens", "seconds")
KINDS: tuple[Kind, ...] = ("single", "baseline", "control", "switch")
Json = dict[str, Any]


def choose_subject(entries: Sequence[MethodEntry], wanted: str | None) -> str:
    """The method that the others are compared with: the wanted one, else the first switching method
    (or random switching), else the last method. A method with hindsight is selected only if it is
    the wanted one. Raises UsageError if the wanted one is not among the entries, or if all of them
    have hindsight."""
    names = [entry.name for entry in entries]
    fair = [entry.name for entry in entries if not entry.hindsight]
    if not fair:
        raise UsageError(
            "there is nothing to compare: name a method with --methods that does not use the "
            "scores themselves (hindsight)" + (f", as {', '.join(names)} does" if names else "")
        )
    if wanted is not None and wanted not in names:
        raise UsageError(
            f"the subject {wanted!r} is not one of the methods {', '.join(names)}: name one of "
            "them, or add it to --methods"
        )
    switching = [entry.name for entry in entries if entry.kind == "switch"]
    switching += [CHANCE] if CHANCE in names else []
    return wanted or (switching or fair[-1:])[0]


def findings(
    measured: Mapping[str, MethodResult],
    categories: Mapping[str, str],
    subject: str,
    on_done: Callable[[], None] = lambda: None,
) -> Json:
    """Everything that is reported. `categories` has each task's category; `on_done` is called after
    each comparison."""
    fair = [method for method in measured.values() if not method.hindsight]
    same = alike(fair)
    different = [method for method in fair if method.name not in same]
    first = next(iter(measured.values()))
    comparisons = _comparisons(measured, subject, on_done)
    return {
        "subject": subject,
        "seeds": len(next(iter(first.values.values()))[0]),
        "questions": {task: len(answers) for task, answers in first.values.items()},
        "categories": dict(categories),
        "methods": {name: _method(method) for name, method in measured.items()},
        "comparisons": comparisons,
        "gains": _gains(measured, subject),
        "leaders": _leaders(fair, measured[subject], comparisons),
        "beyond": _unsolved_coverage(measured, subject),
        "alike": same,
        "frontier": {cost: frontier(points(different, cost)) for cost in COSTS},
        "worth": _break_evens(measured, subject),
    }


def _method(method: MethodResult) -> Json:
    return {
        "kind": method.kind,
        "about": method.about,
        "hindsight": method.hindsight,
        "chosen": dict(method.chosen),
        "file": method.file,
        "tasks": {task: share(answers).to_json() for task, answers in method.values.items()},
        "average": average(method.values).to_json(),
        "seeds": asdict(spread(method.values)),
        "cost": method.cost.to_json(),
        "missing": method.missing,
        "unscored": method.unscored,
    }


def _comparisons(
    measured: Mapping[str, MethodResult], subject: str, on_done: Callable[[], None]
) -> Json:
    """The subject compared with every other method: over all tasks, adjusted (Holm) for the number
    of methods, and task by task, adjusted for the number of tasks. Methods with hindsight are
    compared but not counted in the adjustment."""
    mine = measured[subject]
    comparisons: dict[str, Json] = {}
    for name, other in measured.items():
        if name == subject:
            continue
        tasks = {
            task: asdict(paired({task: answers}, {task: other.values[task]}))
            for task, answers in mine.values.items()
        }
        adjusted = holm([comparison["p"] for comparison in tasks.values()])
        for comparison, p in zip(tasks.values(), adjusted, strict=True):
            comparison["p_holm"] = p
        comparisons[name] = {
            **asdict(paired(mine.values, other.values)),
            "over_tasks": asdict(tally(mine.scores, other.scores)),
            "gain": asdict(gain(mine.scores, other.scores)),
            "tasks": tasks,
        }
        on_done()
    counted = [name for name in comparisons if not measured[name].hindsight]
    for test in ("p", "mcnemar"):
        known = [name for name in counted if comparisons[name][test] is not None]
        for name, p in zip(known, holm([comparisons[name][test] for name in known]), strict=True):
            comparisons[name][f"{test}_holm"] = p
    return comparisons


def _gains(measured: Mapping[str, MethodResult], subject: str) -> Json:
    """The gains as the paper reports them, over the single checkpoints and over the baselines: over
    each of them (mean), over their mean, over the best of them on average and on each task."""
    mine = measured[subject].scores
    gains: Json = {}
    for kind, what in (("single", "singles"), ("baseline", "baselines")):
        group = [
            other for other in measured.values() if other.kind == kind and other.name != subject
        ]
        if not group:
            continue
        each = [gain(mine, other.scores) for other in group]
        relative = [other.relative for other in each if other.relative is not None]
        best = max(group, key=lambda other: other.average)
        gains[what] = {
            "each": {
                "relative": sum(relative) / len(relative) if relative else None,
                "left_out": sum(other.left_out for other in each),
                "absolute": sum(other.absolute for other in each) / len(each),
            },
            "mean": asdict(gain(mine, combined([other.scores for other in group], "mean"))),
            "best": {"name": best.name, **asdict(gain(mine, best.scores))},
            "best by task": asdict(gain(mine, combined([other.scores for other in group], "best"))),
        }
    return gains


def _leaders(fair: Sequence[MethodResult], subject: MethodResult, comparisons: Json) -> Json:
    """The best method of each kind on each task, and the tasks on which a combination, a switching
    method, and the subject are above all rivals (single checkpoints, then baselines too, then
    controls too). The first two are the best of several, selected on the same test questions; for
    the subject, `sure` lists the tasks where it is significant."""
    tasks = list(subject.scores)

    def best(group: Sequence[MethodResult], task: str) -> MethodResult:
        return max(group, key=lambda method: method.scores[task])

    def above(group: Sequence[MethodResult], rivals: Sequence[MethodResult]) -> list[str]:
        return [
            task
            for task in tasks
            if group and best(group, task).scores[task] > best(rivals, task).scores[task]
        ]

    kinds = {kind: [method for method in fair if method.kind == kind] for kind in KINDS}
    rivals: dict[str, list[MethodResult]] = {}
    for kind in ("single", "baseline", "control"):
        others = [method for method in kinds[kind] if method is not subject]
        if others:
            rivals[kind] = [*(list(rivals.values())[-1] if rivals else []), *others]
    return {
        "tasks": {
            task: {
                kind: {"name": best(group, task).name, "score": best(group, task).scores[task]}
                for kind, group in kinds.items()
                if group
            }
            for task in tasks
        },
        "combined": above([*kinds["baseline"], *kinds["switch"]], kinds["single"])
        if kinds["single"]
        else [],
        "switching": {up_to: above(kinds["switch"], group) for up_to, group in rivals.items()},
        "subject": {
            up_to: {
                "tasks": (leading := above([subject], group)),
                "sure": _sure(leading, [comparisons[method.name]["tasks"] for method in group]),
            }
            for up_to, group in rivals.items()
        },
    }


def _sure(leading: Sequence[str], rivals: Sequence[Json]) -> list[str]:
    """Those of the `leading` tasks where the subject is above all `rivals` at the 5 % level: the
    largest p of the rivals counts, after Holm over all tasks."""
    tasks = list(rivals[0])
    adjusted = holm([max(rival[task]["p"] for rival in rivals) for task in tasks])
    return [task for task, p in zip(tasks, adjusted, strict=True) if task in leading and p < ALPHA]


def _unsolved_coverage(measured: Mapping[str, MethodResult], subject: str) -> Json | None:
    """How many of the questions that no single checkpoint solves the subject solves, compared with
    chance; None with fewer than two seeds, no single checkpoints, or no such questions."""
    singles = [method.name for method in measured.values() if method.kind == "single"]
    if not singles or measured[subject].kind == "single":
        return None
    others = [subject, *(name for name in (CHANCE,) if name in measured and name != subject)]
    rounds = halved({name: method.values for name, method in measured.items()}, singles, others)
    coverage = unsolved_coverage(rounds, subject)
    return None if coverage is None else asdict(coverage)


def _break_evens(measured: Mapping[str, MethodResult], subject: str) -> Json:
    """The break-even of the subject over every other method, in tokens and in seconds."""
    by_cost: Json = {}
    for cost in COSTS:
        at = points(list(measured.values()), cost)
        mine = at.pop(subject, None)
        by_cost[cost] = {
            name: asdict(break_even(mine, point)) for name, point in at.items() if mine is not None
        }
    return by_cost
