"""What becomes of the team when a student takes the aligned checkpoint's place."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.evaluation.distillation import compare
from taketurns.pocket import TASKS
from taketurns.training import fine_tuning
from taketurns.training.distillation.comparison import METHODS, Contestants
from taketurns.training.distillation.run import DEFAULTS
from taketurns.training.distillation.settings import ComparisonConfig, StudentConfig
from taketurns.training.distillation.student import find_student
from taketurns.training.distillation.team import write_team


def with_student(team: TeamConfig, folder: Path) -> tuple[TeamConfig, list[str]]:
    """The team file that is written, and what is said of it."""
    said: list[str] = []
    student = find_student(team, None, None)
    write_team(team, student, student.start, folder, said.append)
    return load_team_config(folder), said


def test_a_folded_head_does_not_know_the_student_either(pocket: TeamConfig, tmp_path: Path) -> None:
    folded = SwitcherConfig("folded", tokens=(10, 11, 12), reader=2)
    team, said = with_student(replace(pocket, switcher=folded), tmp_path)
    assert team.switcher.kind == "random"
    assert "has a random switcher until one is trained for it" in said[0]


def test_who_switches_at_random_ends_no_patches(pocket: TeamConfig, tmp_path: Path) -> None:
    """The head that did is gone; a team that says so still answers."""
    rule = PatchRule("switcher", min=4, max=16)
    policy = replace(pocket.policy, patch=rule, max_tokens=20)
    team, _ = with_student(replace(pocket, policy=policy), tmp_path)
    assert team.policy.patch == replace(rule, until="random")
    with Team.load(team) as loaded:
        assert loaded.generate("what is 1 + 2 ?").error is None


def test_a_guards_judge_is_asked_in_the_comparison(tmp_path: Path) -> None:
    guard = {"to": "aligned", "judge": "aligned", "threshold": 1.0}
    team = load_team_config("pocket", {"guard": guard, "policy.max_tokens": 20})
    answers = {method: tmp_path / f"{method}.jsonl" for method in METHODS}
    contestants = Contestants(team, 2, team.candidates[2].spec, answers)
    found = asyncio.run(compare(contestants, [TASKS["recall"]], ComparisonConfig("dev", limit=1)))
    assert found["cost"]["team"]["parameters"] > 0


@pytest.mark.parametrize(("adapter", "wanted"), [(None, None), ("there", True)])
def test_only_a_model_that_is_trained_whole_is_loaded_for_it(
    adapter: str | None, wanted: bool | None, pocket: TeamConfig, monkeypatch: Any
) -> None:
    """Unless told so, a large model gets an adapter, and its weights stay as they were saved."""
    seen: list[bool | None] = []

    def load(spec: Any, lora: bool | None) -> None:
        seen.append(lora)
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "load_trainable", load)
    start = replace(pocket.candidates[2].spec, adapter=adapter)
    with pytest.raises(KeyboardInterrupt):
        fine_tuning.rehearse(start, Path(), StudentConfig(), DEFAULTS)
    assert seen == [wanted]
