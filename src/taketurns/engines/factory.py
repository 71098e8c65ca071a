"""The engine that a team file asks for."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.config.team_config import EngineConfig
from taketurns.engines.base import Engine
from taketurns.types import Candidate
from taketurns.utils.parts import make_part, require_methods


def make_engine(models: Sequence[Candidate], settings: EngineConfig) -> Engine:
    """An engine for these models; nothing is loaded or connected yet. Raises UsageError if a user's
    own engine cannot be made."""
    if settings.kind == "http":
        from taketurns.engines.http.engine import HttpEngine

        return HttpEngine(models, settings)
    if settings.kind == "vllm":
        from taketurns.engines.vllm.engine import VllmEngine

        return VllmEngine(models, settings)
    if settings.kind != "local":
        engine: Engine = make_part("engines", settings.kind, settings.settings, models)
        require_methods(
            f"the engine {settings.kind!r}", engine, ("info", "load", "session", "close")
        )
        return engine
    from taketurns.engines.local.engine import LocalEngine

    return LocalEngine.configured({model.name: model.spec for model in models}, settings)
