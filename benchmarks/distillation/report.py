"""The tables of docs/results.md: python benchmarks/distillation/report.py WORK"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from taketurns.training.distillation.summary import score_lines

STUDENTS = ("both", "both-seed1", "sft", "kl", "from-pretrained", "second")


def estimate(found: Mapping[str, float] | None, form: str) -> str:
    """A figure with its interval."""
    if found is None:
        return "not said"
    return "{} ({} to {})".format(*(format(found[key], form) for key in ("value", "low", "high")))


def main(work: Path) -> None:
    """Gains and costs a student, then the first one's scores a task."""
    found = {
        name: json.loads((work / name / "metrics.json").read_text())
        for name in STUDENTS
        if (work / name / "metrics.json").exists()
    }
    columns = ("student", "its gain", "the team's", "gain kept", "tokens", "parameters", "seconds")
    lines = [columns, ("---",) * len(columns)]
    for name, metrics in found.items():
        gain, ratio = (metrics["comparison"][key] for key in ("gain", "cost_ratio"))
        costs = (f"{ratio[what]:.2f}" for what in columns[4:])
        both = (estimate(gain[whose], "+.3f") for whose in ("student", "team"))
        lines.append((name, *both, estimate(gain["kept"], ".0%"), *costs))
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    for name in sorted({"both", "second"} & found.keys()):
        metrics = found[name]
        aligned = metrics["student"]["in_place_of"]
        print(f"\n{name}:\n", *score_lines(metrics["comparison"], aligned), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
