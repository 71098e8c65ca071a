"""What the answers say: scores with intervals, comparisons with the subject, gains, costs.

The result is plain JSON values, which is what the report and `results.json` are made from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taketurns.baselines.table import Entry
from taketurns.errors import UsageError
from taketurns.evaluate.beyond import CHANCE, beyond_singles, halved
from taketurns.evaluate.results import Measured
from taketurns.evaluate.worth import alike, break_even, frontier, points
from taketurns.intervals import average, share
from taketurns.statistics import combined, gain, holm, paired, spread, tally

SCHEMA = "taketurns.evaluation/1"
COSTS = ("tokens", "seconds")
Json = dict[str, Any]


def choose_subject(entries: Sequence[Entry], wanted: str | None) -> str:
    """The method that the others are compared with: the wanted one, else the first that switches,
    which may be by chance, else the last; never one with hindsight that nobody wanted. Raises
    UsageError for one that is not asked, and where all have hindsight."""
    names = [entry.name for entry in entries]
    fair = [entry.name for entry in entries if not entry.hindsight]
    if not fair:
        raise UsageError(
            "there is nothing to compare: name a method that does not know the scores beforehand"
            + (f", as {', '.join(names)} does" if names else "")
        )
    if wanted is not None and wanted not in names:
        raise UsageError(f"the subject {wanted!r} is none of the methods {', '.join(names)}")
    switching = [entry.name for entry in entries if entry.kind == "switch"]
    switching += [CHANCE] if CHANCE in names else []
    return wanted or (switching or fair[-1:])[0]


def findings(
    measured: Mapping[str, Measured],
    categories: Mapping[str, str],
    subject: str,
    on_done: Callable[[], None] = lambda: None,
) -> Json:
    """Everything that is reported. `categories` are the tasks'; `on_done` sees each comparison."""
    fair = [one for one in measured.values() if not one.hindsight]
    same = alike(fair)
    own = [one for one in fair if one.name not in same]
    first = next(iter(measured.values()))
    return {
        "schema": SCHEMA,
        "subject": subject,
        "seeds": len(next(iter(first.values.values()))[0]),
        "questions": {task: len(answers) for task, answers in first.values.items()},
        "categories": dict(categories),
        "methods": {name: _method(one) for name, one in measured.items()},
        "comparisons": _comparisons(measured, subject, on_done),
        "gains": _gains(measured, subject),
        "leaders": _leaders(fair),
        "beyond": _beyond(measured, subject),
        "alike": same,
        "frontier": {cost: frontier(points(own, cost)) for cost in COSTS},
        "worth": _worth(measured, subject),
    }


def _method(one: Measured) -> Json:
    return {
        "kind": one.kind,
        "about": one.about,
        "hindsight": one.hindsight,
        "chosen": dict(one.chosen),
        "tasks": {task: share(answers).to_json() for task, answers in one.values.items()},
        "average": average(one.values).to_json(),
        "seeds": asdict(spread(one.values)),
        "cost": one.cost.to_json(),
        "missing": one.missing,
        "unscored": one.unscored,
    }


def _comparisons(
    measured: Mapping[str, Measured], subject: str, on_done: Callable[[], None]
) -> Json:
    """The subject beside every other method: over all tasks, adjusted for being so many, and task
    by task, adjusted for the tasks. What has hindsight is compared and not counted."""
    mine = measured[subject]
    found: dict[str, Json] = {}
    for name, other in measured.items():
        if name == subject:
            continue
        tasks = {
            task: asdict(paired({task: answers}, {task: other.values[task]}))
            for task, answers in mine.values.items()
        }
        adjusted = holm([one["p"] for one in tasks.values()])
        for one, p in zip(tasks.values(), adjusted, strict=True):
            one["p_holm"] = p
        found[name] = {
            **asdict(paired(mine.values, other.values)),
            "over_tasks": asdict(tally(mine.scores, other.scores)),
            "gain": asdict(gain(mine.scores, other.scores)),
            "tasks": tasks,
        }
        on_done()
    counted = [name for name in found if not measured[name].hindsight]
    for test in ("p", "mcnemar"):
        known = [name for name in counted if found[name][test] is not None]
        for name, p in zip(known, holm([found[name][test] for name in known]), strict=True):
            found[name][f"{test}_holm"] = p
    return found


def _gains(measured: Mapping[str, Measured], subject: str) -> Json:
    """As the paper sums them up: over the single checkpoints and over the baselines, over each on
    average, over their mean, and over the best of them on each task and on average."""
    mine = measured[subject].scores
    found: Json = {}
    for kind, what in (("single", "singles"), ("baseline", "baselines")):
        group = [one for one in measured.values() if one.kind == kind and one.name != subject]
        if not group:
            continue
        each = [gain(mine, one.scores) for one in group]
        relative = [one.relative for one in each if one.relative is not None]
        best = max(group, key=lambda one: one.average)
        found[what] = {
            "each": {
                "relative": sum(relative) / len(relative) if relative else None,
                "left_out": sum(one.left_out for one in each),
                "absolute": sum(one.absolute for one in each) / len(each),
            },
            "mean": asdict(gain(mine, combined([one.scores for one in group], "mean"))),
            "best": {"name": best.name, **asdict(gain(mine, best.scores))},
            "best by task": asdict(gain(mine, combined([one.scores for one in group], "best"))),
        }
    return found


def _leaders(fair: Sequence[Measured]) -> Json:
    """On each task the best single checkpoint, the best way to combine them, and the best of all
    that do not look ahead; and on how many tasks combining and switching lead."""
    tasks: Json = {}
    for task in fair[0].values:
        by_kind = {
            kind: max(group, key=lambda one: one.scores[task])
            for kind in ("single", "baseline", "control", "switch")
            if (group := [one for one in fair if one.kind == kind])
        }
        tasks[task] = {
            kind: {"name": one.name, "score": one.scores[task]} for kind, one in by_kind.items()
        }

    def score(task: str, kind: str) -> float:
        return float(tasks[task].get(kind, {"score": -1.0})["score"])

    def leads(task: str, kinds: Sequence[str], others: Sequence[str]) -> bool:
        return max(score(task, k) for k in kinds) > max(score(task, k) for k in others)

    combining, alone = ("baseline", "switch"), ("single",)
    return {
        "tasks": tasks,
        "combined above every single": [t for t in tasks if leads(t, combining, alone)],
        "switching above every single": [t for t in tasks if leads(t, ("switch",), alone)],
        "switching best of all": [
            t for t in tasks if leads(t, ("switch",), ("single", "baseline"))
        ],
    }


def _beyond(measured: Mapping[str, Measured], subject: str) -> Json | None:
    """What the subject solves of the questions that no single checkpoint solves, beside chance;
    None where there are no two seeds, no single checkpoints, or no such questions."""
    singles = [one.name for one in measured.values() if one.kind == "single"]
    if not singles or measured[subject].kind == "single":
        return None
    others = [subject, *(name for name in (CHANCE,) if name in measured and name != subject)]
    rounds = halved({name: one.values for name, one in measured.items()}, singles, others)
    found = beyond_singles(rounds, subject)
    return None if found is None else asdict(found)


def _worth(measured: Mapping[str, Measured], subject: str) -> Json:
    """The subject beside each cheaper method, in tokens and in seconds."""
    found: Json = {}
    for cost in COSTS:
        at = points(list(measured.values()), cost)
        mine = at.pop(subject, None)
        found[cost] = {
            name: asdict(break_even(mine, point)) for name, point in at.items() if mine is not None
        }
    return found
