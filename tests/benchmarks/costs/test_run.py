from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from typer.testing import CliRunner

from benchmarks.costs.run import as_lines, measured, steps
from benchmarks.costs.table import main as table_main
from benchmarks.overhead.__main__ import bench
from recipes.steps import perform_steps, step_options

LIST = (sys.executable, "-c", 'print(\'[{"a": 1}, {"a": 2}]\')')


def test_every_step_has_a_name_and_an_output_of_its_own(tmp_path: Path) -> None:
    made = list(steps(tmp_path))
    assert len({step.name for step in made}) == len({step.output for step in made}) == len(made)
    assert {"table", "overhead-8x1024-1", "length-4096"} <= {step.name for step in made}
    assert all(step.output.parent == tmp_path for step in made)


def test_the_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step's arguments are parsed by the command that it runs."""
    runner, seen = CliRunner(), []
    for name in ("overhead", "length"):
        monkeypatch.setattr(f"benchmarks.overhead.{_module(name)}.run", _stop)
    for step in steps(tmp_path):
        if step.command:
            table_main([*step.command[3:], "--list"])
            continue
        command = step.make.args[0]  # type: ignore[union-attr]
        result = runner.invoke(bench, list(command[3:]))
        assert isinstance(result.exception, Reached), (command, result.output)
        seen.append(step.name)
    assert len(seen) > 10


class Reached(Exception):
    pass


def _stop(*_: object) -> None:
    raise Reached


def _module(command: str) -> str:
    return "suite" if command == "overhead" else command


def test_a_json_list_becomes_lines_that_appear_when_they_are_complete(tmp_path: Path) -> None:
    output = tmp_path / "part.jsonl"
    as_lines(LIST, output)
    assert [json.loads(line)["a"] for line in output.read_text().splitlines()] == [1, 2]
    broken = tmp_path / "broken.jsonl"
    with pytest.raises(CalledProcessError):
        as_lines((sys.executable, "-c", "print('['); raise SystemExit(1)"), broken)
    assert not broken.exists()


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (measured(tmp_path, name, ()) for name in ("first", "second"))
    first.output.write_text("kept\n")
    options = step_options("").parse_args([str(tmp_path), "--list"])
    perform_steps([first, second], options)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["done", "second"]
