"""The switching benchmark's commands are commands, and its tables say what is in the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from benchmarks.switching.run import steps
from taketurns.cli.app import app


def parse(command: tuple[str, ...]) -> None:
    """Raise what a person would see for a command that is none."""
    group: Any = typer.main.get_command(app)
    arguments = list(command[1:])
    while hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context(command[-1], arguments)


def test_every_step_makes_an_output_of_its_own(tmp_path: Path) -> None:
    every = list(steps(tmp_path))
    assert len({step.name for step in every}) == len({step.output for step in every}) == len(every)
    made: set[Path] = set()
    for step in every:
        if step.command[:1] == ("taketurns",):
            parse(step.command)
        used = {Path(part.partition("=")[2] or part) for part in step.command}
        ours = {path for path in used if path.is_relative_to(tmp_path / "switchers")}
        ours -= {tmp_path / "switchers" / "tasks", step.output.parent}
        assert {path / "metrics.json" for path in ours} <= made, step.name
        made.add(step.output)


def values(right: float, noise: int, questions: int = 200) -> dict[str, list[list[float]]]:
    rng = np.random.default_rng(noise)
    return {"recall": (rng.random((questions, 3)) < right).astype(float).tolist()}


def test_a_planted_difference_is_found_and_none_is_not() -> None:
    pytest.importorskip("statsmodels", reason="needs the eval extra")
    from benchmarks.switching import report

    found = {"good": values(0.7, 1), "same": values(0.5, 2), "poor": values(0.5, 3)}
    good, same = (report.against(found, name).splitlines()[-1] for name in ("good", "same"))
    assert good.startswith("| poor | +0.")
    assert float(good.split("|")[-2]) < 0.001
    assert same.startswith("| poor | ")
    assert float(same.split("|")[-2]) > 0.05


@pytest.mark.slow
def test_the_tables_hold_every_method() -> None:
    pytest.importorskip("statsmodels", reason="needs the eval extra")
    from benchmarks.switching import report

    found = {name: values(0.5, i, 20) for i, name in enumerate((*report.SINGLES, "random", "head"))}
    assert report.by_task(found).count("\n") == 4
    assert "| head |" in report.averages({"main": found})
    assert "| random |" in report.against(found, "head")
    hard = {name: {"recall": [[0.0] * 3] * 20} for name in found} | {"head": found["head"]}
    beyond = report.beyond(hard, hard, ["head"])
    assert "of 20" in beyond
    assert "| random again | 0 of 20 |" in beyond
