"""The engine that a team file asks for."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import Engine
from taketurns.types import Candidate


def make_engine(models: Sequence[Candidate], settings: EngineConfig) -> Engine:
    """An engine for these models; nothing is loaded or connected yet."""
    if settings.kind == "http":
        from taketurns.engines.http.engine import HttpEngine

        return HttpEngine(models, settings)
    from taketurns.engines.local.engine import LocalEngine

    return LocalEngine.configured({model.name: model.spec for model in models}, settings)
