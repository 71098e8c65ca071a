"""Options have one name in all commands; what was called otherwise is still read, and not shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from taketurns.cli.app import app
from taketurns.cli.old_options import OldOptions


@pytest.fixture
def run() -> Callable[..., dict[str, object]]:
    """What a command with `--output`, `--task` and `--set` is given."""
    given: dict[str, object] = {}
    small = typer.Typer()

    @small.command(cls=OldOptions)
    def command(
        output: str = typer.Option(..., "--output", "-o"),
        task: list[str] = typer.Option([]),
        words: list[str] = typer.Argument(None),
    ) -> None:
        given.update(output=output, task=list(task), words=list(words or ()))

    def run(*arguments: str) -> dict[str, object]:
        given.clear()
        ended = CliRunner().invoke(small, arguments)
        return dict(given) or {"refused": ended.output}

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "x", "--task", "a", "--task", "b"),
        ("--out", "x", "--tasks", "a,b"),
        ("--out=x", "--tasks= a, b,"),
        ("-o", "x", "--task", "a", "--tasks", "b"),
    ],
)
def test_old_names_are_read(
    run: Callable[..., dict[str, object]], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments) == {"output": "x", "task": ["a", "b"], "words": []}


def test_a_value_may_look_like_an_option(run: Callable[..., dict[str, object]]) -> None:
    assert run("--out", "--tasks")["output"] == "--tasks"
    assert run("-o", "x", "--", "--out")["words"] == ["--out"]


def test_a_value_that_is_missing_is_asked_for_by_the_new_name(
    run: Callable[..., dict[str, object]],
) -> None:
    assert "'--output' requires an argument" in str(run("--out")["refused"])


def _commands() -> list[tuple[str, ...]]:
    whole = typer.main.get_command(app)
    assert isinstance(whole, typer.core.TyperGroup)
    return [(name, *inner) for name, one in whole.commands.items() for inner in _inside(one)]


def _inside(command: object) -> list[tuple[str, ...]]:
    return [(name,) for name in getattr(command, "commands", {})] or [()]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_the_same_names(command: tuple[str, ...]) -> None:
    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    options = {name: one.opts for one in found.params for name in one.opts}
    assert not {"--out", "--tasks"} & set(options)
    if "--output" in options:
        assert options["--output"] == ["--output", "-o"]
