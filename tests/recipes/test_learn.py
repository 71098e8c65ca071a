"""Learning on the real team is a list of commands; here they are read, not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from recipes.real import learn


def test_every_step_is_a_command_of_the_project(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for step in learn.steps(tmp_path / "team.yaml", tmp_path, tmp_path, tmp_path):
        code, _, err = invoke(*step.arguments, "--help")
        assert code == 0, err


def test_without_the_questions_it_says_where_they_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--cache", tmp_path / "cache", "--data", tmp_path / "none", "--out", tmp_path / "out"]
    assert learn.main(list(map(str, given))) == 2
    assert f"there is no {tmp_path}/none/popqa.json" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


def test_a_step_that_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def steps(team: Path, cache: Path, data: Path, out: Path) -> list[learn.LearningStep]:
        return [
            learn.LearningStep(name, (name, "--out", str(out)), lambda: {"score": 1})
            for name in ("first", "second")
        ]

    def run(command: tuple[str, ...], **options: Any) -> float:
        ran.append(command[1])
        if ran == ["first", "second"]:
            raise CalledProcessError(1, command)
        return 90.0

    for task in learn.TASKS:
        (tmp_path / f"{task}.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(learn, "fetch", lambda cache: cache / "team.yaml")
    monkeypatch.setattr(learn, "steps", steps)
    monkeypatch.setattr(learn, "run_command", run)
    monkeypatch.setattr(learn.results, "markdown", lambda done: f"{len(done)} steps\n")
    given = ["--cache", str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path / "out")]

    assert learn.main(given) == 1
    assert "second failed; the same command goes on from there" in capsys.readouterr().err
    assert learn.main(given) == 0

    assert ran == ["first", "second", "second"]
    told = capsys.readouterr()
    assert told.out == "2 steps\n"
    assert "first: 1.5 minutes" in told.err
