"""Old import paths give the modules that have moved, and say where these are now."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from taketurns.utils.old_paths import MOVED

HEAVY = ("torch", "transformers", "pydantic", "yaml", "rich", "typer", "importlib.util")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_path_gives_the_very_module(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"^{old} is now {new}$") as caught:
        module = import_module(old)
    assert module is import_module(new)
    assert module.__name__ == new
    assert getattr(module.__spec__, "name", None) == new
    assert len([w for w in caught if str(w.message).startswith(f"{old} is")]) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("taketurns.scorers.base", "taketurns.tasks.scorers.base"),
        ("taketurns.scorers.numbers", "taketurns.tasks.scorers.numbers"),
        ("taketurns.launch.plan", "taketurns.integrations.launch.plan"),
        ("taketurns.ecosystem.settings", "taketurns.integrations.settings"),
    ],
)
def test_a_submodule_moves_with_its_package(old: str, new: str) -> None:
    assert import_module(old) is import_module(new)
    assert getattr(import_module(old.rpartition(".")[0]), new.rpartition(".")[2]) is import_module(
        new
    )


def test_the_warning_is_given_once_where_the_old_path_is_imported() -> None:
    code = "import taketurns\nfrom taketurns.scorers.base import Scorer\n"
    code += "from taketurns.scorers.base import Scorer as Again\nassert Again is Scorer"
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Warning") == 1
    assert result.stderr.startswith(
        "<string>:2: DeprecationWarning: taketurns.scorers is now taketurns.tasks.scorers"
    )


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("taketurns.draft", "Draft", "GenerationState"),
        ("taketurns.switchers", "Follower", "TokenLevelSwitcher"),
        ("taketurns.switchers", "PartSwitcher", "SubsetSwitcher"),
    ],
)
def test_a_name_of_before_stays_an_alias(path: str, old: str, new: str) -> None:
    result = run(
        f"from {path} import {old}, {new}; assert {old} is {new}; import {path} as module; "
        f"assert module.{old} is {new}"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("DeprecationWarning") == 1


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "taketurns.config",
            "BUNDLED EngineConfig EngineKind SwitcherConfig SwitcherKind TeamConfig change_policy "
            "find_team_file load_settings load_team_config parse_bytes parse_setting",
        ),
        (
            "taketurns.switchers",
            "Decide FixedSwitcher FoldedSwitcher HeadSwitcher LMSwitcher RandomSwitcher Switcher "
            "make_switcher",
        ),
        ("taketurns.engines.local", "LocalEngine"),
        ("taketurns.engines.base", "Engine ModelInfo Session"),
        ("taketurns.engines.scripted", "ScriptedEngine"),
        ("taketurns.engines.http.engine", "HttpEngine"),
        ("taketurns.tasks.base", "Task"),
    ],
)
def test_a_path_that_stayed_has_its_names(path: str, names: str) -> None:
    module = import_module(path)
    assert not [name for name in names.split() if not hasattr(module, name)]


@pytest.mark.parametrize(
    "path", ["taketurns.nothing", "taketurns.scorers.nothing", "taketurns.teams"]
)
@pytest.mark.filterwarnings("ignore:taketurns.scorers is now:DeprecationWarning")
def test_a_path_that_never_was_is_an_ordinary_error(path: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"^No module named '{path}'$"):
        import_module(path)
    assert find_spec("taketurns.nothing") is None


def test_a_package_of_before_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "taketurns.ecosystem"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("lighteval.py")


def test_ray_serve_finds_the_application_of_older_manifests() -> None:
    pytest.importorskip("ray.serve")
    new = import_module("taketurns.integrations.launch.ray_serve")
    assert import_module("taketurns.launch.ray_serve").build is new.build


def test_the_package_costs_nothing_to_import() -> None:
    result = run(f"import sys, taketurns; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
