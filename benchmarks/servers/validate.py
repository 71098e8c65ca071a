"""Does the simulation predict real servers? python -m benchmarks.servers.validate measured.json

`make test-vllm` writes `measured.json`: costs measured on one server alone, and measurements of a
bare server and of the team at several numbers of concurrent answers. The same answers are simulated
with these costs; no compared value was fitted. Prints the rows of a table; --plot draws it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.integrations.planning.costs import read_costs
from taketurns.integrations.planning.deployment import Deployment
from taketurns.integrations.planning.simulation import simulate
from taketurns.integrations.planning.workload import SimulatedAnswer


@dataclass(frozen=True)
class ServingComparison:
    """Measured and simulated: tokens per second, median and 95 % quantile of an answer's seconds,
    share of prompt tokens found in a cache."""

    who: str
    at_a_time: int
    measured: tuple[float, float, float, float]
    simulated: tuple[float, float, float, float]


def compare(measured: Mapping[str, Any]) -> Iterator[ServingComparison]:
    """Each measurement with its simulation."""
    costs = read_costs(measured["costs"])
    for row in measured["figures"]:
        team = row["who"] == "team"
        deployment = Deployment(
            costs,
            candidates=measured["candidates"] if team else 1,
            switcher="lm" if team else "none",
            tags=measured["tags"],
            question=measured["question"],
            cores=measured["cores"],
        )
        answers = [
            SimulatedAnswer(
                one["prompt"], tuple((speaker, tokens) for speaker, tokens in one["turns"])
            )
            for one in row["work"]
        ]
        outcome = simulate(deployment, answers, at_a_time=row["at_a_time"])
        times = outcome.summary()["answer"]
        cached = row["cached_tokens"] / max(1, row["prompt_tokens"])
        yield ServingComparison(
            row["who"],
            row["at_a_time"],
            (row["tokens"] / row["seconds"], row["median"], row["late"], cached),
            (row["tokens"] / outcome.seconds, times["p50"], times["p95"], outcome.cached),
        )


def line(row: ServingComparison) -> str:
    """A row of the table."""
    cells = [f"| {row.who} | {row.at_a_time}"]
    for here, there, form in zip(
        row.measured, row.simulated, ("{:.0f}", "{:.2f}", "{:.2f}", "{:.0%}"), strict=True
    ):
        cells += [form.format(here), form.format(there)]
    return " | ".join(cells) + " |"


def draw(rows: list[ServingComparison], path: Path, title: str) -> None:
    """Measured as dots, simulated as lines."""
    from taketurns.integrations.planning.figures import write_panels
    from taketurns.utils.colours import COLOURS

    panels = ("tokens per second", "whole answer, p50, seconds", "whole answer, p95, seconds",
              "prompt tokens found in caches")  # fmt: skip
    colours = dict(zip(dict.fromkeys(row.who for row in rows), COLOURS[5:7], strict=False))

    def plot(axes: Any, panel: int) -> None:
        for who, colour in colours.items():
            mine = [row for row in rows if row.who == who]
            across = [row.at_a_time for row in mine]
            simulated = [row.simulated[panel] for row in mine]
            measured = [row.measured[panel] for row in mine]
            axes.plot(across, simulated, "-", color=colour, label=f"{who}, simulated")
            axes.plot(across, measured, "o", color=colour, label=f"{who}, measured")

    loads = [row.at_a_time for row in rows]
    write_panels(path, title, panels, plot, "concurrent answers", loads)


def main() -> None:
    """Simulate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    rows = list(compare(measured))
    for row in rows:
        print(line(row))
    if options.plot is not None:
        draw(rows, options.plot, measured["about"])


if __name__ == "__main__":
    main()
