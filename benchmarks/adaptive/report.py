"""Choose settings on dev, then report tables and a plot of test, from `benchmarks.adaptive.run`.

    python -m benchmarks.adaptive.report WORK [--choose] [--plot FILE]

A rule that asks the switcher more often could win for that reason alone. So each rule is compared
with fixed sizes at the same number of calls and at the same number of switches, by interpolation
between sizes. Intervals are percentiles of a bootstrap over questions within each task, of rules
and fixed sizes together.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.answering import BootstrapMean, Floats, MeanFunction, bootstrap
from taketurns.utils.markdown import difference, interval, table

RULES = ("sentence", "uncertainty", "switcher", "random")


@dataclass(frozen=True, slots=True)
class RuleScores:
    """The answers with a rule and its settings: means over seeds `[tasks, questions]`; `ends`
    counts the reasons why patches ended."""

    name: str
    score: Floats
    calls: Floats
    switches: Floats
    tokens: Floats
    ends: Counter[str]

    @property
    def rule(self) -> str:
        return self.name.partition("-")[0]

    @property
    def label(self) -> str:
        """The settings of the rule, without the head."""
        return self.name.rpartition("-")[0]

    @property
    def head(self) -> str:
        return self.name.rpartition("-")[2]

    @property
    def interval(self) -> BootstrapMean:
        """The mean score."""
        return bootstrap(self.score.shape, lambda mean: mean(self.score))


def read(work: Path, split: str) -> dict[str, RuleScores]:
    """All measurements on a split, by name."""
    return {path.stem: _read(path) for path in sorted((work / split).glob("*.json"))}


def _read(path: Path) -> RuleScores:
    answers = json.loads(path.read_text(encoding="utf-8"))["answers"].values()

    def mean(key: str) -> Floats:
        return np.array([[np.mean([a[key] for a in seeds]) for seeds in task] for task in answers])

    ends: Counter[str] = Counter()
    for answer in (answer for task in answers for seeds in task for answer in seeds):
        ends.update(answer["ends"])
    return RuleScores(
        path.stem, mean("score"), mean("calls"), mean("switches"), mean("tokens"), ends
    )


def choose(dev: Mapping[str, RuleScores]) -> dict[str, object]:
    """The settings for test, by the mean score on dev: for each fixed size the better head, for
    each rule the best settings. `fixed` is the best size; it and the rules except the control get
    their heads trained on reward."""

    def best(tried: Iterable[RuleScores]) -> str:
        return max(tried, key=lambda scores: float(scores.score.mean())).name

    every = dev.values()
    labels = sorted({scores.label for scores in every if scores.rule == "fixed"}, key=_size)
    sizes = [best(scores for scores in every if scores.label == label) for label in labels]
    rules = [best(scores for scores in every if scores.rule == rule) for rule in RULES]
    fixed = best(dev[name] for name in sizes)
    return {"fixed": fixed, "test": [*sizes, *rules], "practised": [fixed, *rules[:-1]]}


def _size(label: str) -> int:
    return int(label.rpartition("-")[2])


def at_equal(rule: RuleScores, fixed: Sequence[RuleScores], axis: str) -> BootstrapMean:
    """The gain of a rule over fixed sizes with the same number of `axis` ("calls" or "switches")
    per answer. Beyond the smallest or largest size, that size counts."""

    def gain(mean: MeanFunction) -> float:
        points = sorted((mean(getattr(size, axis)), mean(size.score)) for size in fixed)
        counts, scores = zip(*points, strict=True)
        return mean(rule.score) - float(np.interp(mean(getattr(rule, axis)), counts, scores))

    return bootstrap(rule.score.shape, gain)


def over(rule: RuleScores, other: RuleScores) -> BootstrapMean:
    """The gain of one over another on the same questions."""
    return bootstrap(rule.score.shape, lambda mean: mean(rule.score) - mean(other.score))


def figures(rules: Iterable[RuleScores]) -> str:
    """The table with a row for each."""
    head = ["patches", "head", "score", "calls", "switches", "tokens", "ended by the rule"]
    return table(head, map(_figures, rules))


def _figures(rule: RuleScores) -> list[str]:
    return [
        rule.label,
        rule.head,
        interval(*astuple(rule.interval)),
        f"{rule.calls.mean():.2f}",
        f"{rule.switches.mean():.2f}",
        f"{rule.tokens.mean():.0f}",
        f"{rule.ends[rule.rule] / rule.ends.total():.0%}",
    ]


def comparison(test: Mapping[str, RuleScores], chosen: Mapping[str, object]) -> str:
    """Each rule compared with fixed sizes."""
    fixed = [scores for scores in test.values() if scores.rule == "fixed"]
    best = test[str(chosen["fixed"])]
    rows = [
        [
            scores.label,
            _gain(at_equal(scores, fixed, "calls")),
            _gain(at_equal(scores, fixed, "switches")),
            _gain(over(scores, best)),
        ]
        for rule in RULES
        for scores in test.values()
        if scores.rule == rule
    ]
    head = ["patches", "over fixed at equal calls", "at equal switches", f"over {best.label}"]
    return table(head, rows)


def _gain(estimate: BootstrapMean) -> str:
    return difference(*astuple(estimate))


def by_task(
    test: Mapping[str, RuleScores], chosen: Mapping[str, object], tasks: Sequence[str]
) -> str:
    """A row per task: the best fixed size and every rule."""
    rules = [scores for scores in test.values() if scores.rule in RULES]
    columns = [test[str(chosen["fixed"])], *rules]
    rows = [
        [task, *(f"{scores.score[index].mean():.3f}" for scores in columns)]
        for index, task in enumerate(tasks)
    ]
    return table(["task", *(scores.label for scores in columns)], rows)


def plot(test: Mapping[str, RuleScores], path: Path) -> None:
    """Score against calls and against switches per answer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, axis in zip(panels, ("calls", "switches"), strict=True):
        for rule, marker in zip(("fixed", *RULES), "o^sDx", strict=True):
            points = [scores for scores in test.values() if scores.rule == rule]
            if rule == "fixed":
                points.sort(key=lambda scores: _size(scores.label))
            spread = [scores.interval for scores in points]
            score = np.array([(e.value, e.value - e.low, e.high - e.value) for e in spread]).T
            counts = [getattr(scores, axis).mean() for scores in points]
            line = "-" if rule == "fixed" else ""
            axes.errorbar(
                counts, score[0], score[1:], marker=marker, linestyle=line, capsize=2, label=rule
            )
            if rule == "fixed":
                for scores, x, y in zip(points, counts, score[0], strict=True):
                    place: dict[str, Any] = {"textcoords": "offset points", "xytext": (4, 5)}
                    axes.annotate(str(_size(scores.label)), (x, y), fontsize=7, **place)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"{axis} per answer")
    panels[0].set_ylabel("mean score, 13 pocket tasks")
    panels[0].legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Choose on dev, or print the results on test."""
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
        print("## After training on reward\n", figures(settings.values()), sep="\n")
        if (best := settings.pop(chosen["fixed"], None)) and settings:
            rows = [[scores.label, _gain(over(scores, best))] for scores in settings.values()]
            print(table(["patches", f"over {best.label}"], rows))
            print(by_task({best.name: best} | settings, chosen, tasks))
    if options.plot:
        plot(shown, options.plot)


if __name__ == "__main__":
    main()
