"""Which tasks are asked where none is named: the pocket world's only of teams made for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.errors import UsageError
from taketurns.pocket.tasks import TASKS, tasks_named
from taketurns.runs.records import SAMPLE, query_to_json, sample_questions
from taketurns.tasks.custom import TaskFile
from taketurns.tasks.defaults import choose_tasks, pocket_tasks

ROOT = Path(__file__).parents[1]
TEAM = "candidates:\n- {name: a, model: org/a}\n- {name: b, model: org/b}\n"
Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    (tmp_path / "team.yaml").write_text(TEAM)
    return tmp_path


def made_for(folder: Path, sample: dict[str, Any]) -> str:
    (folder / "metrics.json").write_text(json.dumps({SAMPLE: sample}))
    return str(folder)


def sample_of(names: list[str], world: int = 0) -> dict[str, Any]:
    tasks = tasks_named(names, world)
    return sample_questions((task.name, task.queries("train")[3]) for task in tasks)


@pytest.mark.parametrize(
    "command",
    [
        ("rollout", "--output", "labels.jsonl"),
        ("train", "--method", "policy-gradient", "--output", "better"),
        ("evaluate", "--out", "report"),
        ("distill", "--output", "student"),
        ("safety", "--out", "safety"),
        ("experiment", "--out", "analysis"),
    ],
    ids=lambda command: command[0],
)
def test_a_team_of_ones_own_has_to_name_its_tasks(
    invoke: Invoke, team: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(team)
    code, out, err = invoke(*command, "--team", "team.yaml")
    assert (code, out) == (2, "")
    assert "name the tasks to ask team.yaml with --task" in err
    assert "`taketurns tasks`" in err
    lines = err.strip().partition("five lines of YAML, ")[2].split(" / ")
    assert len(lines) == 5
    assert TaskFile.model_validate(yaml.safe_load("\n".join(lines))).scorer == "alias"
    assert [path.name for path in team.iterdir()] == ["team.yaml"]


def test_a_folder_that_keeps_what_it_learned_is_asked_that_and_it_is_said(team: Path) -> None:
    said: list[str] = []
    where = made_for(team, sample_of(["harm", "recall"]))
    asked = choose_tasks(where, (), said.append)
    assert (asked.names, asked.world) == (("recall", "harm"), 0)
    assert said == ["no --task is named: asking the tasks of the pocket world, recall, harm"]
    assert choose_tasks(f"{where}/team.yaml", (), said.append) == asked


def test_the_world_is_that_of_the_build(team: Path) -> None:
    """Fault: a team built with another seed was asked what is true of the bundled one's world."""
    said: list[str] = []
    where = made_for(team, sample_of(["recall"], world=3))
    assert choose_tasks(where, (), said.append).world == 3
    assert "of the pocket world of seed 3" in said[0]
    assert choose_tasks(where, ["recall"], said.append).world == 3
    assert choose_tasks(where, ["recall"], said.append, world=1).world == 1
    (team / "metrics.json").unlink()
    (team / "card.json").write_text(json.dumps({"recipe": {"seed": 5}}))
    assert choose_tasks(where, (), said.append).world == 5


@pytest.mark.parametrize("name", ["recall", "capitals"])
def test_a_task_of_ones_own_is_not_taken_for_one_of_the_pocket_world(team: Path, name: str) -> None:
    query = {"id": f"{name}/1", "text": "What is the capital of Peru?"}
    where = made_for(team, {name: query, "arithmetic": sample_of(["arithmetic"])["arithmetic"]})
    with pytest.raises(UsageError, match=f"which was made for {name}, arithmetic, with --task"):
        choose_tasks(where, (), print)
    other = {**query_to_json(TASKS["recall"].queries("train")[0]), "text": query["text"]}
    assert pocket_tasks(made_for(team, {"recall": other})) is None


def test_what_is_named_is_asked_of_any_team(team: Path) -> None:
    said: list[str] = []
    assert choose_tasks(str(team), ["recall"], said.append).names == ("recall",)
    assert choose_tasks(str(team), (), said.append, world=0).names == tuple(TASKS)


def test_the_bundled_team_and_its_switchers_are_of_the_pocket_world() -> None:
    assert pocket_tasks("pocket") is not None
    weights = Path(load_team_config("pocket").candidates[0].spec.model).parent
    for folder in (weights, *(weights / "switchers").iterdir()):
        assert (asked := pocket_tasks(str(folder))) is not None
        assert asked.names == ((folder.name,) if folder.name in TASKS else tuple(TASKS))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ASKING = re.compile(r"^taketurns +(?:rollout|evaluate|distill|safety|experiment|train) .*", re.M)


def test_the_documented_commands_name_their_tasks() -> None:
    """They were asked the pocket world's questions, whatever the team was."""
    commands = [c for page in PAGES for c in ASKING.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) > 15
    for command in commands:
        learns_from_labels = "taketurns train" in command and "policy-gradient" not in command
        of_the_pocket_world = re.search(r"--team (?:pocket|first|second-team)\b", command)
        assert learns_from_labels or of_the_pocket_world or " --task" in command, command
