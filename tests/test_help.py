"""What `--help` shows: every command in a group, with an example that works, and no torn line."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from taketurns.cli.app import GROUPS, app
from taketurns.cli.examples import EXAMPLES, WIDTH

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROOT: Any = typer.main.get_command(app)


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(_commands(ROOT))


def shown(words: str, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    ended = CliRunner().invoke(app, [*words.split(), "--help"], prog_name="taketurns")
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_every_command_is_in_a_group() -> None:
    groups = {name: command.rich_help_panel for name, command in ROOT.commands.items()}
    visible = {name for name, command in ROOT.commands.items() if not command.hidden}
    assert all(groups[name] in GROUPS for name in visible)
    assert visible == {name.split()[0] for name in EXAMPLES}


def test_the_groups_stand_in_the_order_of_the_readmes_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = README[README.index("| to | read |") :].split("\n\n")[0]
    rows = re.findall(r"^\| (\w[^|]*) \|", table, re.MULTILINE)[1:]
    for row, group in zip(rows, GROUPS, strict=True):
        assert row.endswith(group.lower()), (row, group)
    titles = re.findall(r"^╭─ (.+?) ─", shown("", 80, monkeypatch), re.MULTILINE)
    assert titles == ["Options", *GROUPS]


def test_every_command_takes_one_line_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {words: ROOT.commands[words] for words in ("pocket", "smol")}
    for words, group in {"": ROOT, **groups}.items():
        lines = shown(words, 80, monkeypatch).splitlines()
        for name, command in group.commands.items():
            if command.hidden:
                continue
            summary = command.help.split("\n\n")[0].strip()
            assert any(line.startswith(f"│ {name} ") and summary in line for line in lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_works(name: str) -> None:
    """Its options are the command's, all that are required are there, and the values are read."""
    example = EXAMPLES[name]
    assert len(example) <= WIDTH
    program, *arguments = shlex.split(example)
    assert program == "taketurns"
    words = name.split()
    assert arguments[: len(words)] == words
    rest, command = arguments[len(words) :], COMMANDS[name]
    assert command.epilog.endswith(example)
    if name == "lm-eval":  # its options are the harness's
        return
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= options
    command.make_context(name, rest)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"lm-eval"}))
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_torn(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, kinds of values, words and the example are whole."""
    output = shown(name, width, monkeypatch)
    command = COMMANDS[name]
    assert EXAMPLES[name] in output
    words = {word for line in output.splitlines() for word in line.strip("│ ").split()}
    for parameter in command.params:
        if parameter.hidden:
            continue
        assert {*parameter.opts, *parameter.secondary_opts} <= words
        assert set((parameter.help or "").split()) <= words
    for line in re.sub(r"\[x>=\d+\]", "", output).splitlines():
        assert line.count("<") == line.count(">"), line
    said = "".join(parameter.help or "" for parameter in command.params)
    assert output.count("…") == said.count("…")


SHARED: dict[str, set[str]] = {
    "Options": {"--team", "--output", "--set", "--json"},
    "Questions": {"--data", "--with", "--world"},
    "Execution": {"--workers", "--clock", "--runner", "--actors", "--gpus", "--shard"},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_of_many_commands_stands_in_one_panel(name: str) -> None:
    found: dict[str, set[str]] = {}
    for parameter in COMMANDS[name].params:
        found.setdefault(parameter.rich_help_panel or "Options", set()).add(parameter.opts[0])
    assert len(found) <= 6
    for panel, options in found.items():
        for shared, names in SHARED.items():
            assert panel == shared or not names & options


def test_help_loads_nothing_slow() -> None:
    script = "import sys, taketurns.cli.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert not {"torch", "transformers", "pydantic", "yaml", "asyncio"} & {*done.stdout.split()}
