"""The small package of the release check, used here without being built."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import taketurns
from recipes import parts_package
from recipes.parts_package import MODULE, NAME, PYPROJECT, VERSION, try_parts, write_package

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`taketurns` in a process that sees the package as if it were installed."""
    site = write_package(tmp_path / "package") / "src"
    info = site / f"{NAME.replace('-', '_')}-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
    (info / "top_level.txt").write_text(f"{MODULE}\n")
    groups = tomllib.loads(PYPROJECT)["project"]["entry-points"]
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in groups.items()
        )
    )
    paths = [str(site), str(Path(taketurns.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "taketurns", *arguments],
            cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_every_part_is_used(command: Command, tmp_path: Path) -> None:
    assert list(try_parts(tmp_path, command)) == []


@pytest.mark.slow
def test_a_part_that_does_not_work_is_complained_of(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_package, "ANSWER", "aabb")
    module = tmp_path / "package" / "src" / MODULE / "__init__.py"
    module.write_text(module.read_text().replace('answer.count("a")', "-1"))
    (tmp_path / "package" / "src" / MODULE / "broken.py").write_text("class Switcher: ...\n")
    complaints = "\n".join(try_parts(tmp_path, command))
    assert "answered ['bbaabbaa', 'bbaabbaa'], not 'aabb' twice" in complaints
    assert "a scorer of a package does not work: " in complaints
    assert "not named in one sentence" in complaints


def test_every_group_of_entry_points_has_a_part() -> None:
    from typing import get_args

    from taketurns.utils.parts import Group

    groups = tomllib.loads(PYPROJECT)["project"]["entry-points"]
    assert set(groups) == {f"taketurns.{group}" for group in get_args(Group)}
