"""The team file beside a student keeps its switcher."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.config.pair_rules import BacoRule, DeferralRule, MentorRule, NudgingRule, PairRule
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.switchers.head import HeadConfig, save
from taketurns.training.distillation.student import Student
from taketurns.training.distillation.team import write_team
from taketurns.types import Candidate, ModelSpec


def test_a_judge_of_another_model_is_left_out(tmp_path: Path) -> None:
    """It reads states of the writer: a student in the writer's place has others."""
    (tmp_path / "judge").mkdir()
    save("judge", HeadConfig("candidate", ("a", "b"), "a", {"a": (-1,)}), {}, tmp_path / "judge")
    candidates = tuple(Candidate(name, ModelSpec(f"org/{name}")) for name in ("a", "b"))
    path = str(tmp_path / "judge")
    switcher = SwitcherConfig(kind="mentorcollab", pair=MentorRule(), path=path)
    team, said = TeamConfig(candidates, switcher), list[str]()
    for student, kind in ((Student("a", ModelSpec("org/a"), 0), "random"),
                          (Student("b", ModelSpec("org/b"), 1), "mentorcollab")):  # fmt: skip
        output = tmp_path / student.name
        output.mkdir()
        write_team(team, student, ModelSpec("org/s"), output, said.append)
        assert load_team_config(output).switcher.kind == kind
    assert "trained on hidden states of a, not of the student" in said[0]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("nudging", NudgingRule(0.3, base=1)),
        ("baco", BacoRule(1.5, "entropy", ("function_words",), base=1)),
        ("mentorcollab", MentorRule(0.5, 4)),
        ("deferral", DeferralRule(0.3)),
    ],
)
def test_a_token_level_switcher_keeps_its_settings(
    kind: str, rule: PairRule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the distilled team's file named the kind alone, so the defaults were used."""
    from taketurns.training.distillation import team as written

    monkeypatch.setattr(written, "_reads_states_of", lambda name, switcher: False)
    path = str(tmp_path) if kind == "deferral" else None
    candidates = tuple(Candidate(name, ModelSpec(f"org/{name}")) for name in ("a", "b"))
    team = TeamConfig(candidates, SwitcherConfig(kind=kind, pair=rule, path=path))
    output = tmp_path / "out"
    output.mkdir()
    student = Student("b", ModelSpec("org/b"), 1)
    write_team(team, student, ModelSpec("org/b"), output, lambda sentence: None)
    assert yaml.safe_load((output / "team.yaml").read_text())["switcher"]["kind"] == kind
    read = load_team_config(output).switcher
    assert (read.kind, read.pair, read.path) == (kind, rule, path)


def test_a_router_keeps_its_model_and_its_head(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    router = SwitcherConfig(
        kind="fusionroute", spec=ModelSpec("org/r", prompt="{text}"), path=str(tmp_path / "router")
    )
    candidates = tuple(Candidate(name, ModelSpec(f"org/{name}")) for name in ("a", "b"))
    output = tmp_path / "out"
    output.mkdir()
    student = Student("b", ModelSpec("org/b"), 1)
    team = TeamConfig(candidates, router)
    write_team(team, student, ModelSpec("org/b"), output, lambda sentence: None)
    assert load_team_config(output).switcher == router
