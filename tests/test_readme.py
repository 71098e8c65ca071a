"""What the README says is run."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taketurns.cli import app
from taketurns.config import load_team_config

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


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
