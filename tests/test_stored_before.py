"""What the version before wrote is read as before: `tests/data/stored-0.1.0` is of the code before
its modules moved (a file of answers that was stopped after two of three, labels, a head with its
team file, an evaluation)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import taketurns
from taketurns import Query, Team

STORED = Path(__file__).parent / "data" / "stored-0.1.0"
WEIGHTS = Path(taketurns.__file__).parent / "pocket" / "weights"
Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "stored"
    shutil.copytree(STORED, folder)
    team = folder / "head" / "team.yaml"
    text = team.read_text(encoding="utf-8").replace("WEIGHTS", str(WEIGHTS))
    team.write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_answers_that_were_stopped_go_on(stored: Path, invoke: Invoke) -> None:
    before = (stored / "answers.jsonl").read_bytes()
    code, _, err = invoke(
        "generate", "--team", "pocket", "--seed", "3", "--input", "questions.jsonl",
        "--output", "answers.jsonl",
    )  # fmt: skip
    assert code == 0, err
    after = (stored / "answers.jsonl").read_bytes()
    assert after.startswith(before)
    assert [json.loads(line)["id"] for line in after.splitlines()] == ["1", "2", "3"]


def test_labels_are_whole_and_a_head_learns_from_them(stored: Path, invoke: Invoke) -> None:
    before = (stored / "labels.jsonl").read_bytes()
    code, _, err = invoke(
        "rollout", "--team", "pocket", "--task", "recall", "--task", "arithmetic", "--prefixes",
        "12", "--k", "1", "--seed", "1", "--output", "labels.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert (stored / "labels.jsonl").read_bytes() == before
    code, _, err = invoke(
        "train", "--team", "pocket", "--labels", "labels.jsonl", "--switcher", "head", "--epochs",
        "2", "--output", "again",
    )  # fmt: skip
    assert code == 0, err
    assert (stored / "again" / "head.json").read_text() == (stored / "head/head.json").read_text()


def test_a_team_folder_with_a_head_answers(stored: Path) -> None:
    with Team.load(stored / "head") as team:
        trace = team.generate(Query("1", text="what is 23 + 48?"))
    assert trace.error is None
    assert all(patch.probabilities for patch in trace.patches)


def test_an_evaluation_goes_on_with_the_answers_it_has(stored: Path, invoke: Invoke) -> None:
    asked = files(stored / "evaluation")
    results = json.loads((stored / "evaluation" / "results.json").read_text(encoding="utf-8"))
    code, _, err = invoke(
        "evaluate", "--team", "pocket", "--task", "recall", "--methods", "aligned,switch,vote",
        "--limit", "3", "--seeds", "1", "--dev-limit", "2", "--output", "evaluation",
    )  # fmt: skip
    assert code == 0, err
    after = files(stored / "evaluation")
    for name, content in asked.items():
        if name.endswith(".jsonl") or name.startswith("chosen"):
            assert after[name] == content, name
    assert {name for name in after if name.startswith(("answers", "dev", "chosen"))} <= set(asked)
    again = json.loads((stored / "evaluation" / "results.json").read_text(encoding="utf-8"))
    assert again["methods"] == results["methods"]
