"""What `make` would run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def would_run(target: str, environment: Path) -> str:
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={environment}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("\\\n", " ")


@pytest.mark.parametrize("target", ["install", "install-dev"])
def test_installing_shows_that_it_goes_on(target: str, tmp_path: Path) -> None:
    (install,) = re.findall(r".* pip install .*--editable.*", would_run(target, tmp_path / "new"))
    assert "--quiet" not in install


def test_the_newest_is_an_environment_of_its_own_that_is_not_committed(tmp_path: Path) -> None:
    run = would_run("test-newest", tmp_path / ".venv")
    newest = f"{tmp_path / '.venv-newest'}/bin/python"
    (install,) = re.findall(rf"{newest} -m pip install .*", run)
    assert "--upgrade-strategy eager" in install
    assert "--constraint constraints.txt" not in install
    (tests,) = re.findall(rf"{newest} -m pytest .*", run)
    assert all(f"tests/{part}" in tests for part in ("engines", "training", "server"))
    assert "/.venv-*/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
