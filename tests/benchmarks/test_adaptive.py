"""The benchmark of adaptive patches: its commands are commands, and a planted gain is found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.adaptive import report
from benchmarks.adaptive.run import settings, steps
from taketurns.cli.app import app
from taketurns.config.loading import load_team_config
from taketurns.config.settings import parse_setting


def parse(command: tuple[str, ...]) -> None:
    """Raise what a person would see for a command that is none."""
    group: Any = typer.main.get_command(app)
    group.commands[command[1]].make_context(command[1], list(command[2:]))


def test_every_step_is_a_command_with_an_output_of_its_own(tmp_path: Path) -> None:
    names = [*settings()][:3]
    chosen = {"test": [f"{n}-anywhere" for n in names], "practised": [f"{names[0]}-boundary"]}
    (tmp_path / "chosen.json").write_text(json.dumps(chosen))
    made = list(steps(tmp_path))
    assert len({step.name for step in made}) == len({step.output for step in made}) == len(made)
    *tried, practice, after = [step.name for step in made][-5:]
    assert tried == [f"test-{name}-anywhere" for name in names]
    assert (practice, after) == (f"practise-{names[0]}-boundary", f"practised-{names[0]}-boundary")
    for step in made:
        if step.command[0] == "taketurns":
            parse(step.command)
        sets = [step.command[i + 1] for i, part in enumerate(step.command) if part == "--set"]
        load_team_config("pocket", dict(map(parse_setting, sets)))


def scores(name: str, score: float, calls: float) -> report.RuleScores:
    """Answers that are right so often, question by question the same for every setting."""
    right = (np.random.default_rng(0).random((2, 400)) < score).astype(float)
    same = np.full((2, 400), calls)
    return report.RuleScores(name, right, same, same / 2, same, Counter(length=1))


def test_a_rule_that_only_asks_more_often_gains_nothing() -> None:
    fixed = [
        scores(f"fixed-{size}-anywhere", score, calls)
        for size, score, calls in ((8, 0.7, 8), (16, 0.5, 4), (32, 0.3, 2))
    ]
    eager = scores("switcher-0-1-8-anywhere", 0.7, 8)
    gain = report.at_equal(eager, fixed, "calls")
    assert gain.low <= 0 <= gain.high
    assert report.over(eager, fixed[1]).low > 0.1
    thrifty = scores("sentence-2-anywhere", 0.7, 4)
    assert report.at_equal(thrifty, fixed, "calls").low > 0.1
    assert report.at_equal(thrifty, fixed, "switches").low > 0.1


def test_what_is_chosen_on_dev_is_asked_on_test() -> None:
    found = {
        one.name: one
        for one in (
            scores("fixed-8-boundary", 0.6, 8),
            scores("fixed-8-anywhere", 0.4, 8),
            scores("fixed-16-boundary", 0.5, 4),
            *(scores(f"{rule}-1-anywhere", 0.3, 4) for rule in report.RULES),
            scores("switcher-2-anywhere", 0.5, 4),
        )
    }
    chosen = report.choose(found)
    assert chosen["fixed"] == "fixed-8-boundary"
    assert chosen["test"][:2] == ["fixed-8-boundary", "fixed-16-boundary"]
    assert "switcher-2-anywhere" in chosen["test"]
    assert "switcher-1-anywhere" not in chosen["test"]
    shown = {name: found[name] for name in chosen["test"]}
    assert report.comparison(shown, chosen).count("\n") == 6
