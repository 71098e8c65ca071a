"""The switching benchmark's commands are commands, and its tables say what is in the scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer

from taketurns.cli.app import app

Load = Callable[[str], ModuleType]


def parse(command: tuple[str, ...]) -> None:
    """Raise what a person would see for a command that is none."""
    group: Any = typer.main.get_command(app)
    arguments = list(command[1:])
    while hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context(command[-1], arguments)


def test_every_step_is_a_command_with_an_output_of_its_own(
    load_script: Load, tmp_path: Path
) -> None:
    steps = list(load_script("switching/run.py").steps(tmp_path))
    assert len({step.name for step in steps}) == len({step.output for step in steps}) == len(steps)
    made: set[Path] = set()
    for step in steps:
        if step.command[0] == "taketurns":
            parse(step.command)
        used = {Path(part.partition("=")[2] or part) for part in step.command}
        ours = {path for path in used if path.is_relative_to(tmp_path / "switchers")}
        ours -= {tmp_path / "switchers" / "tasks", step.output.parent}
        assert {path / "metrics.json" for path in ours} <= made, step.name
        made.add(step.output)


def values(right: float, noise: int, questions: int = 200) -> dict[str, list[list[float]]]:
    rng = np.random.default_rng(noise)
    return {"recall": (rng.random((questions, 3)) < right).astype(float).tolist()}


def test_a_planted_difference_is_found_and_none_is_not(load_script: Load) -> None:
    pytest.importorskip("statsmodels", reason="needs the eval extra")
    report = load_script("switching/report.py")
    good, same, poor = (report.by_question(values(*x)) for x in ((0.7, 1), (0.5, 2), (0.5, 3)))
    gap = report.difference(good, poor)
    assert gap.low < 0.2 < gap.high
    assert gap.p < 0.001
    none = report.difference(same, poor)
    assert none.low < 0 < none.high
    assert none.p > 0.05
    assert report.difference(good, good).p == 1


def test_the_tables_hold_every_method(load_script: Load) -> None:
    pytest.importorskip("statsmodels", reason="needs the eval extra")
    report = load_script("switching/report.py")
    found = {name: values(0.5, i, 20) for i, name in enumerate((*report.SINGLES, "random", "head"))}
    assert report.by_task(found).count("\n") == 4
    assert "| head |" in report.averages({"main": found})
    assert "| random |" in report.against(found, "head")
    hard = {name: {"recall": [[0.0] * 3] * 20} for name in found} | {"head": found["head"]}
    beyond = report.beyond(hard, hard, ["head"])
    assert "of 20" in beyond
    assert "| random again | 0 of 20 |" in beyond
