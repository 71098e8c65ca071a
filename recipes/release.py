"""Build a release and try it: `python -m recipes.release [--dist FOLDER]` (`make release-check`).

The version and the changelog must agree. The source archive and the wheel, built from that archive,
must hold what belongs in them. The wheel is then installed into a fresh environment with the
versions of constraints.txt, and the bundled team answers two questions there, outside the
repository and without the hub. A small package with a part of each kind is built, installed beside
it and used from the command line (`recipes/parts_package.py`). Archives that pass are copied into
`dist/`.

Only the standard library is imported, because any Python may run this.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from recipes.parts_package import NAME as PARTS_NAME
from recipes.parts_package import try_parts, write_package

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "taketurns"
UNRELEASED = "Unreleased"
# Data of the package. Each pattern must match a file of the wheel; `*` matches folders too.
PACKAGE_DATA = (
    "taketurns/py.typed",
    "taketurns/checkpoints/smol/base.toml",
    "taketurns/checkpoints/smol/team.yaml",
    "taketurns/checkpoints/smol/*/adapter_model.safetensors",
    "taketurns/checkpoints/smol/*/base.json",
    "taketurns/checkpoints/smol/switchers/head/head.safetensors",
    "taketurns/evaluation/report/templates/*.html",
    "taketurns/evaluation/report/templates/*.css",
    "taketurns/evaluation/report/templates/*.js",
    "taketurns/integrations/launch/templates/*.yaml.j2",
    "taketurns/integrations/planning/costs/*.json",
    "taketurns/pocket/weights/team.yaml",
    "taketurns/pocket/weights/pretrained/model.safetensors",
    "taketurns/pocket/weights/sft/model.safetensors",
    "taketurns/pocket/weights/aligned/model.safetensors",
    "taketurns/pocket/weights/switchers/*/head.safetensors",
    "taketurns/pocket/weights/switchers/lm/model.safetensors",
    "taketurns/server/page/index.html",
    "taketurns/server/page/*.css",
    "taketurns/server/page/*.js",
    "taketurns/training/cards/*.md.j2",
)
# Files of the source archive in addition to the package.
SOURCES = (
    "pyproject.toml", "constraints.txt", "Makefile", "LICENSE",
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    "tests/*.py", "benchmarks/*.py", "recipes/*.py", "configs/*.yaml", "docs/*.md", "findings/*.sh",
)  # fmt: skip
REPORT = ("matplotlib", "scipy", "statsmodels")
"""What `taketurns evaluate` needs beside the wheel, without the rest of the extra eval."""
QUESTIONS = ("what does rebol fonul work as?", "what is 17 + 25 ?")


class ReleaseError(Exception):
    """An error of the release, as a sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """1, and one sentence, if the release cannot be published."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--dist",
        type=Path,
        default=ROOT / "dist",
        help="the folder for archives that pass: %(default)s",
    )
    dist: Path = parser.parse_args(arguments).dist
    try:
        with TemporaryDirectory(prefix="taketurns-release-") as temporary:
            for archive in check_release(ROOT, Path(temporary)):
                dist.mkdir(parents=True, exist_ok=True)
                print(shutil.copy(archive, dist))
    except ReleaseError as error:
        _say(f"error: {error}")
        return 1
    except subprocess.CalledProcessError as error:
        _say(f"error: {' '.join(map(str, error.cmd))} ended with exit code {error.returncode}")
        return 1
    return 0


def check_release(root: Path, folder: Path) -> tuple[Path, Path]:
    """Build the source archive and the wheel in `folder`, and test them. Raises ReleaseError, or
    CalledProcessError for a command that failed."""
    version = check_version(
        (root / "src" / PACKAGE / "__init__.py").read_text(encoding="utf-8"),
        (root / "CHANGELOG.md").read_text(encoding="utf-8"),
    )
    source, wheel = _build(root, folder, version)
    check_source(source)
    check_wheel(wheel, package_files(root / "src"))
    _say(f"{source.name} and {wheel.name} have the right files")
    _try_wheel(wheel, version, root / "constraints.txt", folder)
    _say(f"{wheel.name} works in a fresh environment")
    _try_parts(root / "constraints.txt", folder)
    _say("a part of each kind is used from a package of its own")
    return source, wheel


def check_version(module: str, changelog: str) -> str:
    """The version in the package's `__init__.py`. Raises ReleaseError unless the newest section of
    the changelog has the same version, or is still unreleased."""
    named = re.search(r'^__version__ = "([^"]+)"$', module, re.MULTILINE)
    if named is None:
        raise ReleaseError('src/taketurns/__init__.py has no line __version__ = "…"')
    heading = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    newest = None if heading is None else heading[1]
    if newest not in (named[1], UNRELEASED):
        raise ReleaseError(
            f"the newest section of CHANGELOG.md is {newest}, and the version in "
            f"src/taketurns/__init__.py is {named[1]}: make them equal, or add ## {UNRELEASED}"
        )
    return named[1]


def package_files(source: Path) -> set[str]:
    """The files of the package in a source folder, by their names in a wheel."""
    files = (path for path in (source / PACKAGE).rglob("*") if path.is_file())
    return {
        path.relative_to(source).as_posix()
        for path in files
        if "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def check_wheel(wheel: Path, package: Collection[str]) -> None:
    """Raise ReleaseError unless the wheel has the files of `package`, including all kinds of data,
    and nothing else except its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
    _require(wheel, "lacks", _unmatched(PACKAGE_DATA, held))
    _require(wheel, "lacks", set(package) - held)
    metadata = re.compile(rf"{PACKAGE}-[^/]+\.dist-info/")
    _require(wheel, "must not hold", {n for n in held - set(package) if not metadata.match(n)})


def check_source(archive: Path) -> None:
    """Raise ReleaseError unless the source archive has the files for tests, checks and docs."""
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    _require(archive, "lacks", _unmatched(SOURCES, held))
    _require(archive, "lacks", _unmatched([f"src/{one}" for one in PACKAGE_DATA], held))


def _unmatched(patterns: Collection[str], names: Collection[str]) -> set[str]:
    return {one for one in patterns if not any(fnmatch(name, one) for name in names)}


def _require(archive: Path, fault: str, names: Collection[str]) -> None:
    """Raises ReleaseError if there are any `names`; `fault` says what the archive does wrong with
    them."""
    if names:
        shown = ", ".join(sorted(names)[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise ReleaseError(f"{archive.name} {fault} {shown}{more}")


def _build(root: Path, folder: Path, version: str) -> tuple[Path, Path]:
    """Build the source archive, and the wheel from the archive."""
    _say("building")
    python = _environment(folder / "build-environment")
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build")
    built = folder / "built"
    _run(python, "-m", "build", "--outdir", built, root)
    source = built / f"{PACKAGE}-{version}.tar.gz"
    wheel = built / f"{PACKAGE}-{version}-py3-none-any.whl"
    for archive in (source, wheel):
        if not archive.is_file():
            raise ReleaseError(f"{archive.name} was not built, but {_names(built)}")
    return source, wheel


def _try_wheel(wheel: Path, version: str, constraints: Path, folder: Path) -> None:
    """Install only the wheel, and use it in an empty folder."""
    _say("installing the wheel into a fresh environment (a few minutes)")
    python = _environment(folder / "environment")
    _run(
        python, "-m", "pip", "install", "--disable-pip-version-check",
        "--constraint", constraints, wheel,
    )  # fmt: skip
    work = folder / "work"
    work.mkdir()
    command = python.with_name(PACKAGE)
    if (said := _ask(work, command, "--version").strip()) != f"{PACKAGE} {version}":
        raise ReleaseError(f"taketurns --version says {said!r}; it must say '{PACKAGE} {version}'")
    if "generate" not in _ask(work, command, "--help"):
        raise ReleaseError("taketurns --help does not list generate")
    place = Path(_ask(work, python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").strip())
    if folder.resolve() not in place.resolve().parents:
        raise ReleaseError(f"import taketurns found {place}, which is not the installed wheel")
    questions = [{"id": str(n), "text": text} for n, text in enumerate(QUESTIONS, 1)]
    lines = "".join(f"{json.dumps(question)}\n" for question in questions)
    (work / "prompts.jsonl").write_text(lines, encoding="utf-8")
    _ask(
        work, command, "generate", "--team", "pocket",
        "--input", "prompts.jsonl", "--output", "answers.jsonl",
    )  # fmt: skip
    check_answers((work / "answers.jsonl").read_text(encoding="utf-8"))


def _try_parts(constraints: Path, folder: Path) -> None:
    """Build the small package, install it beside the wheel, and use its parts."""
    _say("building and installing a package with a part of each kind")
    source, built = write_package(folder / "parts"), folder / "built-parts"
    builder = folder / "build-environment" / "bin" / "python"
    _run(builder, "-m", "build", "--wheel", "--outdir", built, source)
    python = folder / "environment" / "bin" / "python"
    _run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--constraint", constraints, *built.glob("*.whl"), *REPORT,
    )  # fmt: skip
    work = folder / "work"

    def taketurns(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _result(work, python.with_name(PACKAGE), *arguments)

    if complaint := next(try_parts(work, taketurns), None):
        raise ReleaseError(f"{PARTS_NAME}: {complaint}")


def check_answers(records: str) -> None:
    """Raise ReleaseError unless each question has an answer with the speakers of its patches."""
    answers = [json.loads(line) for line in records.splitlines()]
    for answer in answers:
        if answer.get("error") or not answer.get("text") or not answer.get("patches"):
            raise ReleaseError(f"taketurns generate wrote no answer: {json.dumps(answer)[:200]}")
    if len(answers) != len(QUESTIONS):
        raise ReleaseError(
            f"taketurns generate wrote {len(answers)} answers to {len(QUESTIONS)} questions"
        )


def _environment(folder: Path) -> Path:
    """A new virtual environment's Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def _ask(work: Path, *command: object) -> str:
    """The output of a command. Raises CalledProcessError if it fails."""
    done = _result(work, *command)
    sys.stderr.write(done.stderr)
    done.check_returncode()
    return done.stdout


def _result(work: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """The result of a command. It runs in `work`, with its cache there, and without the hub."""
    _say(f"+ {' '.join(map(str, command))}")
    own = {"TAKETURNS_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        list(map(str, command)),
        cwd=work,
        env=_variables() | own,
        check=False,
        capture_output=True,
        text=True,
    )


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, env=_variables())


def _variables() -> dict[str, str]:
    """The environment variables, without those that add other Python packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"


def _say(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
