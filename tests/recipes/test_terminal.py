"""How the scripts of recipes and benchmarks end."""

import sys

import pytest
import typer

from recipes.pocket.__main__ import app
from recipes.terminal import run
from taketurns.errors import EngineError


def test_a_mistake_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["recipes.pocket", "--output", __file__])
    with pytest.raises(SystemExit) as ended:
        run(app, "recipes.pocket")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: --output {__file__} is a file: give a folder to build in\n"


def test_what_fails_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise EngineError("no model answers")

    monkeypatch.setattr(sys, "argv", ["fail"])
    with pytest.raises(SystemExit) as ended:
        run(failing, "fail")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: no model answers\n"
