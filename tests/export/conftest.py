"""A head that could be folded, and the bundled team with it inside its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.integrations.export.run import export_folded
from taketurns.switchers.head import Head, HeadConfig, Scale

NAMES = ("pretrained", "sft", "aligned")


def random_head(mode: Any = "speaker", layers: tuple[int, ...] = (4,)) -> Head:
    """A head of random taste on the bundled checkpoints, without a bias."""
    draws = torch.Generator().manual_seed(3)
    config = HeadConfig(mode, NAMES, "aligned")
    config = HeadConfig(mode, NAMES, "aligned", dict.fromkeys(config.readers, layers))
    width = 128 * len(layers)
    scales = {
        name: Scale(
            torch.zeros(width),
            torch.rand(width, generator=draws) + 0.5,
            0.3 * torch.randn(3, width, generator=draws),
        )
        for name in config.readers
    }
    return Head(config, scales, torch.zeros(4, 3))


Headed = Callable[[Head], TeamConfig]


@pytest.fixture(scope="session")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Headed:
    """The bundled team with another head."""

    def make(head: Head) -> TeamConfig:
        folder = tmp_path_factory.mktemp("head")
        head.save(folder)
        switcher = SwitcherConfig("head", path=str(folder))
        return replace(load_team_config("pocket"), switcher=switcher)

    return make


@pytest.fixture(scope="session")
def folded(headed: Headed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled team, exported with the random head."""
    output = tmp_path_factory.mktemp("export") / "folded"
    export_folded(headed(random_head()), output)
    return output
