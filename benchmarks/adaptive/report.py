"""What `run.py` left in WORK: knobs chosen on dev, then tables and a plot of test.

    python benchmarks/adaptive/report.py WORK [--choose] [--plot FILE]

A rule that asks the switcher more often could win by that alone, so each is compared with fixed
sizes that make as many calls, and with those that make as many switches: the score of fixed sizes
is interpolated between their sizes. Intervals are percentiles of a bootstrap over questions within
each task, of rules and fixed sizes together.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taketurns.evaluation.statistics import FEW_RESAMPLES, PERCENT_TAIL, percentile_interval

Floats = NDArray[np.float64]
RULES = ("sentence", "uncertainty", "switcher", "random")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's answers: means over seeds `[tasks, questions]`."""

    name: str
    score: Floats
    calls: Floats
    switches: Floats
    tokens: Floats
    ends: Mapping[str, int]

    @property
    def rule(self) -> str:
        return self.name.partition("-")[0]

    @property
    def label(self) -> str:
        """Its knobs, without the head."""
        return self.name.rpartition("-")[0]

    @property
    def head(self) -> str:
        return self.name.rpartition("-")[2]


def read(work: Path, split: str) -> dict[str, Setting]:
    """Everything measured on a split, by name."""
    found = {}
    for path in sorted((work / split).glob("*.json")):
        answers = json.loads(path.read_text(encoding="utf-8"))["answers"].values()

        def mean(key: str, answers: Iterable[list[list[dict[str, float]]]] = answers) -> Floats:
            return np.array(
                [[np.mean([a[key] for a in seeds]) for seeds in task] for task in answers]
            )

        ends: Counter[str] = Counter()
        for task in answers:
            for seeds in task:
                for answer in seeds:
                    ends.update(answer["ends"])
        keys = ("score", "calls", "switches", "tokens")
        found[path.stem] = Setting(path.stem, *map(mean, keys), ends)
    return found


def choose(dev: Mapping[str, Setting]) -> dict[str, object]:
    """By the mean score on dev: for every fixed size its better head, for every rule its best
    knobs; those are the settings of test. `fixed` is the best of the sizes; it and the rules that
    are not the control have their heads practise."""

    def best(some: Iterable[Setting]) -> str:
        return max(some, key=lambda one: float(one.score.mean())).name

    labels = sorted({one.label for one in dev.values() if one.rule == "fixed"}, key=_size)
    sizes = [best(one for one in dev.values() if one.label == label) for label in labels]
    rules = [best(one for one in dev.values() if one.rule == rule) for rule in RULES]
    fixed = best(dev[name] for name in sizes)
    return {"fixed": fixed, "test": [*sizes, *rules], "practised": [fixed, *rules[:-1]]}


def _size(label: str) -> int:
    return int(label.rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where 95 % of its resamples lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


Figure = Callable[[Callable[[Floats], float]], float]
"""A number made of means, each taken by the given function over the same (resampled) questions."""


def interval(shape: tuple[int, int], figure: Figure) -> Interval:
    """Of a figure over `[tasks, questions]`: questions are drawn anew within their task."""
    tasks, questions = shape
    rng = np.random.default_rng(0)
    rows = np.arange(tasks)[:, None]
    values = []
    for _ in range(FEW_RESAMPLES):
        drawn = rng.integers(questions, size=shape)
        values.append(figure(lambda array, drawn=drawn: float(array[rows, drawn].mean())))  # type: ignore[misc]
    low, high = percentile_interval(np.array(values), PERCENT_TAIL)
    return Interval(figure(lambda array: float(array.mean())), float(low), float(high))


def at_equal(one: Setting, fixed: Sequence[Setting], axis: str) -> Interval:
    """What a rule gains over fixed sizes with as many `axis` ("calls" or "switches") an answer.
    Beyond the smallest or largest size the nearest one counts."""

    def gain(mean: Callable[[Floats], float]) -> float:
        points = sorted((mean(getattr(size, axis)), mean(size.score)) for size in fixed)
        at, worth = zip(*points, strict=True)
        return mean(one.score) - float(np.interp(mean(getattr(one, axis)), at, worth))

    return interval(one.score.shape, gain)  # type: ignore[arg-type]


def over(one: Setting, other: Setting) -> Interval:
    """What one gains over another on the same questions."""
    return interval(one.score.shape, lambda mean: mean(one.score) - mean(other.score))  # type: ignore[arg-type]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def figures(settings: Iterable[Setting]) -> str:
    """A row a setting."""
    rows = []
    for one in settings:
        score = interval(one.score.shape, lambda mean, one=one: mean(one.score))  # type: ignore[arg-type,misc]
        ended = sum(count for why, count in one.ends.items() if why == one.rule)
        rows.append(
            [
                one.label, one.head, f"{score.mean:.3f} ({score.low:.3f}-{score.high:.3f})",
                f"{one.calls.mean():.2f}", f"{one.switches.mean():.2f}",
                f"{one.tokens.mean():.0f}", f"{ended / one.ends.total():.0%}",  # type: ignore[attr-defined]
            ]
        )  # fmt: skip
    head = ["patches", "head", "score", "calls", "switches", "tokens", "ended by the rule"]
    return table(head, rows)


def comparison(test: Mapping[str, Setting], chosen: Mapping[str, object]) -> str:
    """Every rule against fixed sizes."""
    fixed = [one for one in test.values() if one.rule == "fixed"]
    best = test[str(chosen["fixed"])]
    rows = [
        [
            one.label, str(at_equal(one, fixed, "calls")), str(at_equal(one, fixed, "switches")),
            str(over(one, best)),
        ]
        for rule in RULES
        for one in test.values()
        if one.rule == rule
    ]  # fmt: skip
    head = ["patches", "over fixed at equal calls", "at equal switches", f"over {best.label}"]
    return table(head, rows)


def by_task(test: Mapping[str, Setting], chosen: Mapping[str, object], tasks: Sequence[str]) -> str:
    """A row a task: the best fixed size and every rule."""
    shown = [test[str(chosen["fixed"])], *(o for o in test.values() if o.rule in RULES)]
    rows = [
        [task, *(f"{one.score[index].mean():.3f}" for one in shown)]
        for index, task in enumerate(tasks)
    ]
    return table(["task", *(one.label for one in shown)], rows)


def plot(test: Mapping[str, Setting], path: Path) -> None:
    """Score over calls and over switches an answer."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 4), layout="constrained")
    panels = canvas.subplots(1, 2, sharey=True)
    fixed = sorted((o for o in test.values() if o.rule == "fixed"), key=lambda o: _size(o.label))
    for axes, axis in zip(panels, ("calls", "switches"), strict=True):
        for rule, marker in zip(("fixed", *RULES), "o^sDx", strict=True):
            mine = fixed if rule == "fixed" else [o for o in test.values() if o.rule == rule]
            spread = [interval(o.score.shape, lambda mean, o=o: mean(o.score)) for o in mine]  # type: ignore[arg-type,misc]
            score = np.array([(i.mean, i.mean - i.low, i.high - i.mean) for i in spread]).T
            at = [getattr(one, axis).mean() for one in mine]
            line = "-" if rule == "fixed" else ""
            axes.errorbar(
                at, score[0], yerr=score[1:], marker=marker, linestyle=line, capsize=2, label=rule
            )
            for one, x, y in zip(mine, at, score[0], strict=True):
                if rule == "fixed":
                    where = (x, y)
                    axes.annotate(
                        str(_size(one.label)), where, textcoords="offset points", xytext=(4, 5),
                        fontsize=7,
                    )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"{axis} an answer")
    panels[0].set_ylabel("mean score, 13 pocket tasks")
    panels[0].legend()
    canvas.savefig(path, dpi=150)


def main() -> None:
    """Choose on dev, or print what test says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--choose", action="store_true", help="write WORK/chosen.json, and stop")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    work: Path = options.work
    dev = read(work, "dev")
    if options.choose:
        (work / "chosen.json").write_text(json.dumps(choose(dev)) + "\n", encoding="utf-8")
        return
    print("## Dev\n", figures(dev.values()), sep="\n")
    if not (test := read(work, "test")):
        return
    chosen = json.loads((work / "chosen.json").read_text(encoding="utf-8"))
    tasks = list(json.loads(next((work / "test").glob("*.json")).read_text("utf-8"))["answers"])
    shown = {name: test[name] for name in chosen["test"] if name in test}
    print("## Test\n", figures(shown.values()), sep="\n")
    print(comparison(shown, chosen), by_task(shown, chosen, tasks), sep="\n")
    if practised := read(work, "practised"):
        settings = {name: practised[name] for name in chosen["practised"] if name in practised}
        print("## After practice\n", figures(settings.values()), sep="\n")
        if (best := settings.pop(chosen["fixed"], None)) and settings:
            rows = [[one.label, str(over(one, best))] for one in settings.values()]
            print(table(["patches", f"over {best.label}"], rows))
            print(by_task({best.name: best} | settings, chosen, tasks))
    if options.plot:
        plot(shown, options.plot)


if __name__ == "__main__":
    main()
