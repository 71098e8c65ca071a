"""What docs/architecture.md names is there, and importing the package is cheap. The direction of
imports is held by the contracts in pyproject.toml (`make check`)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taketurns

SOURCE = Path(taketurns.__file__).parent
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def defined(path: Path) -> set[str]:
    """The names of a module: `Class`, `function`, `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            names |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, functions)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return names


def test_every_file_that_the_architecture_names_is_there() -> None:
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("*/**/*.py")}
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", PAGE))
    assert len(named) > 50
    missing = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}
    assert not missing


def test_every_line_that_the_architecture_leads_to_is_there() -> None:
    table = PAGE[PAGE.index("## Where to find what") : PAGE.index("## The life of an answer")]
    steps = re.findall(r"`([a-z_/]+\.py)` `([A-Za-z_.]+)`", table)
    assert len(steps) > 12
    for file, name in steps:
        assert name in defined(SOURCE / file), f"{file} has no {name}"


@pytest.mark.parametrize(
    "statement",
    ["import taketurns", "import taketurns.cli.app", "import taketurns.config.team_config"],
)
def test_importing_is_cheap(statement: str) -> None:
    code = (
        f"import sys; {statement}; print(*{{'torch', 'transformers', 'numpy'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there() -> None:
    for name in taketurns.__all__:
        value = getattr(taketurns, name)
        assert not isinstance(value, type) or value.__name__ == name  # or an alias of types
    assert set(taketurns.__all__) <= set(dir(taketurns))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Teem'"):
        taketurns.Teem  # noqa: B018
