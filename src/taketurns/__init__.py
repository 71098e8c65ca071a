"""Switch Generation: the checkpoints of a training pipeline take turns writing one answer.

The public names, loaded when first used, so that `import taketurns` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taketurns.utils import old_paths

if TYPE_CHECKING:
    from taketurns.config.policy import Policy
    from taketurns.engines.http.engine import HttpEngine
    from taketurns.engines.local.engine import LocalEngine
    from taketurns.engines.scripted import ScriptedEngine
    from taketurns.errors import (
        CapacityError,
        ConfigError,
        DataError,
        EngineError,
        PromptError,
        TakeTurnsError,
        UsageError,
    )
    from taketurns.generation.team import Team
    from taketurns.types import (
        Candidate,
        Delta,
        Endpoint,
        Message,
        ModelSpec,
        Patch,
        Query,
        Sampling,
        SamplingOptions,
        Trace,
    )

__version__ = "0.1.0"

_HOME = {
    "Candidate": "types",
    "CapacityError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "Delta": "types",
    "EngineError": "errors",
    "Endpoint": "types",
    "HttpEngine": "engines.http.engine",
    "LocalEngine": "engines.local.engine",
    "Message": "types",
    "ModelSpec": "types",
    "Patch": "types",
    "Policy": "config.policy",
    "PromptError": "errors",
    "Query": "types",
    "Sampling": "types",
    "SamplingOptions": "types",
    "ScriptedEngine": "engines.scripted",
    "TakeTurnsError": "errors",
    "Team": "generation.team",
    "Trace": "types",
    "UsageError": "errors",
}

__all__ = [
    "Candidate",
    "CapacityError",
    "ConfigError",
    "DataError",
    "Delta",
    "Endpoint",
    "EngineError",
    "HttpEngine",
    "LocalEngine",
    "Message",
    "ModelSpec",
    "Patch",
    "Policy",
    "PromptError",
    "Query",
    "Sampling",
    "SamplingOptions",
    "ScriptedEngine",
    "TakeTurnsError",
    "Team",
    "Trace",
    "UsageError",
]

old_paths.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'taketurns' has no attribute {name!r}")
    value = getattr(import_module(f"taketurns.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
