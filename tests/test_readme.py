"""What the README says is run."""

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taketurns.cli.app import app
from taketurns.config.loading import load_team_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_team_file_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(text)
    assert len(load_team_config(tmp_path).candidates) == 3


def test_the_commands_exist() -> None:
    commands = set(re.findall(r"^taketurns (\w+)", README, re.MULTILINE))
    assert commands
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile


def test_every_extra_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = README[README.index("| extra | for |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(
        project["optional-dependencies"]
    )


def test_the_environment_is_activated_before_the_first_command() -> None:
    assert "source .venv/bin/activate" in README.split("\ntaketurns ")[0]


def test_the_versions_tested_are_those_of_the_constraints() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (tested,) = re.findall(r"Tested with (.*?):", README, re.DOTALL)
    for name in ("transformers", "peft", "trl", "torch"):
        (version,) = re.findall(rf"^{name}==(\d+\.\d+)", pins, re.MULTILINE)
        assert re.search(rf"{name}\s{re.escape(version)}\b", tested), name


def test_a_team_that_is_not_bundled_is_asked_a_task() -> None:
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))]
    asking = r"^taketurns (?:rollout|evaluate|distill|experiment|safety) .*--team \S+\.yaml\b.*"
    commands = [line for page in pages for line in re.findall(asking, page, re.MULTILINE)]
    assert commands
    for command in commands:
        assert " --task " in command, command


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
