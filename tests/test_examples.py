"""Every example runs, and is short."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LABELS = Path(__file__).parent / "data" / "stored-0.1.0" / "labels.jsonl"


def run(script: Path, *arguments: object, cwd: Path) -> str:
    """What a script prints. It runs in this process: to import all that it needs takes another one
    longer than to run it."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(cwd)
        patch.syspath_prepend(str(script.parent))
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_at_most_forty_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_a_team(tmp_path: Path) -> None:
    out = run(EXAMPLES / "team.py", cwd=tmp_path)
    assert "what is 23 + 48?" in out
    assert any(name in out for name in ("pretrained", "sft", "aligned"))


def test_a_switcher_by_words(tmp_path: Path) -> None:
    first, second = run(EXAMPLES / "keyword_switcher.py", cwd=tmp_path).splitlines()
    assert first.startswith("{'sft'}")
    assert second.startswith("{'pretrained'}")


def test_a_switcher_by_a_classifier(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    assert run(EXAMPLES / "classifier_switcher.py", LABELS, cwd=tmp_path).strip()


def test_a_scorer_and_a_task(tmp_path: Path) -> None:
    assert " of 10 sums" in run(EXAMPLES / "scorer_and_task.py", cwd=tmp_path)


def test_a_method_and_a_task_on_the_command_line(
    tmp_path: Path, invoke: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    code, _, told = invoke(
        "evaluate", "--team", "pocket", "--task", "scorer_and_task:Sums", "--methods",
        "aligned,method:Longest,switch", "--limit", "2", "--seeds", "1", "--output",
        tmp_path / "report",
    )  # fmt: skip
    assert code == 0, told
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert "method:Longest" in results["methods"]


@pytest.mark.slow
def test_a_head_is_trained(tmp_path: Path) -> None:
    out = run(EXAMPLES / "train_head.py", tmp_path / "head", cwd=tmp_path)
    assert len(out.splitlines()) >= 2
    assert (tmp_path / "head" / "head" / "head.safetensors").exists()


def test_a_team_is_served_and_asked(tmp_path: Path) -> None:
    whole, streamed = run(EXAMPLES / "serve_and_ask.py", cwd=tmp_path).splitlines()
    assert whole == streamed


def test_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("agg")
    shown: list[Any] = []
    display = ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append  # type: ignore[attr-defined]
    ipython = ModuleType("IPython")
    # What matplotlib asks of it, where it is imported after this.
    ipython.get_ipython, ipython.version_info = lambda: None, (9, 0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    notebook = json.loads((EXAMPLES / "who_writes_what.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(shown) == 3
    assert "color: #2a78d6" in "".join(shown)
    assert all(sum(row) == pytest.approx(1) for row in names["shares"].values())
