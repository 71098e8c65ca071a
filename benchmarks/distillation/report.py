"""The tables of docs/results/distillation.md: python -m benchmarks.distillation.report WORK"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from taketurns.training.distillation.summary import score_lines
from taketurns.utils.markdown import table

STUDENTS = ("both", "both-seed1", "sft", "kl", "from-pretrained", "second")


def estimate(figure: Mapping[str, float] | None, form: str) -> str:
    """A figure with its interval."""
    if figure is None:
        return "not said"
    return "{} ({} to {})".format(*(format(figure[key], form) for key in ("value", "low", "high")))


def main(work: Path) -> None:
    """Gains and costs of each student, then the scores of the first one by task."""
    students = {
        name: json.loads((work / name / "metrics.json").read_text())
        for name in STUDENTS
        if (work / name / "metrics.json").exists()
    }
    columns = ("student", "its gain", "the team's", "gain kept", "tokens", "parameters", "seconds")
    rows = []
    for name, metrics in students.items():
        gain, ratio = (metrics["comparison"][key] for key in ("gain", "cost_ratio"))
        costs = (f"{ratio[what]:.2f}" for what in columns[4:])
        both = (estimate(gain[whose], "+.3f") for whose in ("student", "team"))
        rows.append((name, *both, estimate(gain["kept"], ".0%"), *costs))
    print(table(columns, rows), end="")
    for name in sorted({"both", "second"} & students.keys()):
        metrics = students[name]
        aligned = metrics["student"]["in_place_of"]
        print(f"\n{name}:\n", *score_lines(metrics["comparison"], aligned), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
