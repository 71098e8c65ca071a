"""What a command lacks is said before it begins, with the line that installs it."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import taketurns
from taketurns.errors import ConfigError, DataError, UsageError
from taketurns.tasks.hub import Source, _rows
from taketurns.tasks.scorers.diversity import Diversity
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.types import Query
from taketurns.utils import extras
from taketurns.utils.extras import EXTRAS, install_command, require

Invoke = Callable[..., tuple[int, str, str]]
SOURCE = Path(taketurns.__file__).parent
PROJECT = SOURCE.parents[1] / "pyproject.toml"
ELSEWHERE = {"inspect_ai", "lighteval"}  # which load us, and are there then
BROUGHT = {"starlette": "serve", "pyarrow": "ray", "opentelemetry": "traces"}  # by what is listed


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any extra."""
    missing = {module for own in EXTRAS.values() for module in own}
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in missing else found(name))


COMMANDS = {
    "train --team pocket --labels {questions} --output {out}": "train",
    "distill --team pocket --task age --output {out}": "train",
    "evaluate --team pocket --tasks age --out {out}": "eval",
    "analyze --run {out} --out {out}": "eval",
    "experiment --team pocket --task age --out {out}": "eval",
    "lm-eval --tasks x": "eval",
    "score --task {task} --answers {questions}": "eval",
    "plan --costs {out}": "plan",
    "plan --costs {out} --plot {out}.svg": "eval,plan",
    "serve --team pocket": "serve",
    "generate --team pocket --input {questions} --output {out} --runner ray": "ray",
    "rollout --team pocket --task age --output {out} --runner ray": "ray",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_its_extra_before_it_starts(
    command: str, bare: None, invoke: Invoke, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"id": "1", "text": "1+1?", "reference": "2"}) + "\n")
    task = tmp_path / "task.yaml"
    task.write_text("name: sums\ndata: questions.jsonl\nscorer: mathematics\n")
    out = tmp_path / "out"
    made = [part.format(questions=questions, task=task, out=out) for part in command.split()]
    code, _, err = invoke(*made)
    assert code == 2
    assert f"pip install 'taketurns[{COMMANDS[command]}]'" in err.splitlines()[-1]
    assert not out.exists()


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match=r"^this needs no_such_thing: pip install"):
        require("this", "json", "no_such_thing")
    require("this", "json")
    assert install_command("trl", "scipy") == "pip install 'taketurns[train,eval]'"


def test_scorers_and_benchmarks_say_it_when_they_are_loaded(bare: None) -> None:
    with pytest.raises(UsageError, match=r"needs math_verify: pip install 'taketurns\[eval\]'"):
        Mathematics().check(Query("1", text="?", reference="2"))
    with pytest.raises(UsageError, match=r"needs sacrebleu: pip install 'taketurns\[eval\]'"):
        Diversity("self-bleu").check(Query("1", text="?"))
    with pytest.raises((UsageError, DataError), match=r"needs datasets: .*\[train\]"):
        next(iter(_rows(Source("org/data", "test"), "test")))  # type: ignore[arg-type]


def test_an_adapter_without_peft_is_a_mistake_of_the_team(bare: None) -> None:
    from taketurns.engines.local.adapters import put_on

    with pytest.raises(ConfigError, match=r"needs peft: pip install 'taketurns\[train\]'"):
        put_on(None, "org/adapter", "a")


def test_the_extras_are_those_of_the_project() -> None:
    listed = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        names = {
            need.partition(">")[0].partition("[")[0].replace("-", "_") for need in listed[extra]
        }
        for module in modules:
            top = module.replace(".", "_")
            assert any(name.startswith(top) for name in names), (extra, module)


def test_whatever_is_imported_is_a_dependency_or_in_an_extra() -> None:
    core = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    known = {need.partition(">")[0].replace("-", "_").lower() for need in core}
    known |= {module.partition(".")[0] for own in EXTRAS.values() for module in own}
    known |= {"yaml", "pydantic_core", *ELSEWHERE, *BROUGHT} | set(sys.stdlib_module_names)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            wrong = {name.partition(".")[0] for name in names} - known - {"taketurns"}
            assert not wrong, f"{path.name} imports {wrong}: give it an extra in extras.py"
