"""What is checked of a release before it is tried, on small archives."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from recipes import release
from recipes.release import PACKAGE_DATA, SOURCES, ReleaseError

DATA = {pattern.replace("*", "one") for pattern in PACKAGE_DATA}
MODULES = {"taketurns/__init__.py", "taketurns/cli/app.py"}
METADATA = {"taketurns-1.0.dist-info/METADATA", "taketurns-1.0.dist-info/licenses/LICENSE"}
MODULE = '"""A package."""\n\n__version__ = "1.2.0"\n'


def wheel(folder: Path, names: Iterable[str]) -> Path:
    path = folder / "taketurns-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def source(folder: Path, names: Iterable[str]) -> Path:
    path = folder / "taketurns-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"taketurns-1.0/{name}"), io.BytesIO())
    return path


def test_a_wheel_of_the_package_and_its_metadata_passes(tmp_path: Path) -> None:
    release.check_wheel(wheel(tmp_path, DATA | MODULES | METADATA), DATA | MODULES)


@pytest.mark.parametrize("lost", sorted(DATA))
def test_a_wheel_without_data_is_refused_even_if_the_source_lacks_it_too(
    lost: str, tmp_path: Path
) -> None:
    package = (DATA | MODULES) - {lost}
    with pytest.raises(ReleaseError, match=r"whl lacks taketurns/"):
        release.check_wheel(wheel(tmp_path, package | METADATA), package)


def test_a_wheel_without_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"whl lacks taketurns/cli/app\.py$"):
        release.check_wheel(wheel(tmp_path, DATA | METADATA), DATA | {"taketurns/cli/app.py"})


@pytest.mark.parametrize(
    "name", ["tests/test_text.py", "benchmarks/run.py", "recipes/steps.py", "taketurns/left.tmp"]
)
def test_a_wheel_with_other_files_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"whl must not hold {name}$"):
        release.check_wheel(wheel(tmp_path, DATA | METADATA | {name}), DATA)


def test_a_source_archive_without_its_tests_is_refused(tmp_path: Path) -> None:
    held = {pattern.replace("*", "one") for pattern in SOURCES}
    held |= {f"src/{name}" for name in DATA}
    release.check_source(source(tmp_path, held))
    with pytest.raises(ReleaseError, match=r"gz lacks tests/\*\.py$"):
        release.check_source(source(tmp_path, held - {"tests/one.py"}))


def test_the_package_here_has_all_that_a_wheel_must_hold() -> None:
    files = release.package_files(release.ROOT / "src")
    assert "taketurns/cli/app.py" in files
    assert not any("__pycache__" in name for name in files)
    for pattern in PACKAGE_DATA:
        assert any(fnmatch(name, pattern) for name in files), pattern
    for pattern in SOURCES:
        assert list(release.ROOT.glob(pattern)), pattern


def test_the_version_here_is_one_that_can_be_released() -> None:
    module = (release.ROOT / "src" / "taketurns" / "__init__.py").read_text(encoding="utf-8")
    changelog = (release.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release.check_version(module, changelog)


@pytest.mark.parametrize("heading", ["Unreleased", "1.2.0", "1.2.0 - 2026-12-01", "[1.2.0] - now"])
def test_the_newest_section_is_of_the_version_or_unreleased(heading: str) -> None:
    changelog = f"# Changelog\n\n## {heading}\n\n### Added\n\n## 1.1.0\n"
    assert release.check_version(MODULE, changelog) == "1.2.0"


def test_another_newest_section_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"is 1\.1\.0, and the version in \S+ is 1\.2\.0"):
        release.check_version(MODULE, "# Changelog\n\n## 1.1.0\n\n## 1.2.0\n")
    with pytest.raises(ReleaseError, match="has no line __version__"):
        release.check_version("", "## Unreleased\n")


def test_answers_are_counted_and_an_error_is_none() -> None:
    answer = {"id": "1", "text": "a baker.", "patches": [{"speaker": 0}]}
    release.check_answers(f"{json.dumps(answer)}\n" * 2)
    with pytest.raises(ReleaseError, match="wrote 1 answers to 2 questions"):
        release.check_answers(json.dumps(answer))
    with pytest.raises(ReleaseError, match=r"wrote no answer: .*out of memory"):
        release.check_answers(json.dumps(answer | {"error": "out of memory"}))
