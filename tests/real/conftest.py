"""The real models in the cache folder that `make real` names by TAKETURNS_REAL. Without it none of
these tests is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.real.adapter import train_adapter
from recipes.real.fetch import fetch
from recipes.real.models import MODELS
from taketurns import Team

if TYPE_CHECKING:
    from .reference import Plain

if "TAKETURNS_REAL" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def real_cache() -> Path:
    """The folder with the models, their GGUF files and `team.yaml`; what is missing is fetched."""
    return fetch(Path(os.environ["TAKETURNS_REAL"])).parent


@pytest.fixture(scope="session")
def plain(real_cache: Path) -> Mapping[str, Plain]:
    """The models as transformers runs them, by the name of their candidate."""
    from .reference import Plain

    prompts = {"gemma": "Question: {text}\nAnswer:"}
    return {
        model.name: Plain.load(model.folder_in(real_cache), prompts.get(model.name))
        for model in MODELS
    }


@pytest.fixture(scope="session")
def team(real_cache: Path) -> Iterator[Team]:
    """Three models, three tokenizers."""
    with Team.load(real_cache / "team.yaml") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def adapter(real_cache: Path) -> Path:
    """A LoRA adapter on SmolLM2."""
    return train_adapter(real_cache)
