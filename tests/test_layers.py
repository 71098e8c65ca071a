"""The tree is the architecture: a module imports only from modules to its left."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import taketurns

SOURCE = Path(taketurns.__file__).parent

# Left to right in the flow; what stands in one line may import from each other.
ORDER = [
    ["types", "errors", "seeds", "sync", "clocks", "files"],
    ["finite", "extras", "streams", "phrases", "expressions"],
    ["model_files"],
    ["hub"],
    ["weight_files", "yaml_files"],
    ["gguf", "headers", "tokenizer_files"],
    ["policy", "control", "text", "templates", "statistics"],
    ["config", "prompts"],
    ["naming"],
    ["engines"],
    ["yesno"],
    ["handover"],
    ["switchers", "draft", "heads", "guards"],
    ["patches"],
    ["writer"],
    ["answer"],
    ["team"],
    ["scorers"],
    ["tasks"],
    ["records"],
    ["output", "manifest", "locks"],
    ["runner"],
    ["occasions", "allocation", "utilities"],
    ["rollouts"],
    ["labels"],
    ["terminal", "options", "old_options", "next_step"],
    ["labelling"],
    ["shards"],
    ["workers"],
    ["distributed"],
    ["training"],
    ["export"],
    ["reinforcement"],
    ["pocket"],
    ["catalogue", "default_tasks"],
    ["scoring"],
    ["train"],
    ["ecosystem"],
    ["baselines"],
    ["evaluate"],
    ["analysis"],
    ["experiments"],
    ["check", "check_served", "chat", "demo", "bench", "server"],
    ["distillation"],
    ["safety"],
    ["launch", "planning"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Our modules that a file imports, without those that are for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "taketurns":
                found |= {alias.name for alias in node.names if alias.name in RANK}
            elif node.module and node.module.startswith("taketurns."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.startswith("taketurns.")]
            found |= {name.split(".")[1] for name in ours}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_come_from_the_left(path: Path) -> None:
    mine = layer(path)
    assert mine in RANK, f"give {mine} its place in ORDER"
    wrong = {name for name in imported(path) if RANK[name] > RANK[mine]}
    assert not wrong, f"{mine} imports {wrong}, which stand to its right"
    beside = {name for name in imported(path) if RANK[name] == RANK[mine] and name != mine}
    assert all(mine not in imported(SOURCE / f"{name}.py") for name in beside), "a circle"


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
        assert getattr(taketurns, name).__name__ == name
    assert set(taketurns.__all__) <= set(dir(taketurns))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Teem'"):
        taketurns.Teem  # noqa: B018
