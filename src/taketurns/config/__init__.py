"""What a team file says: the candidates, the switcher, the engine and the policy.

The names are loaded when first used: a team that is made in code needs no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taketurns.config.bundled import BUNDLED
    from taketurns.config.loading import (
        change_policy,
        find_team_file,
        load_settings,
        load_team_config,
    )
    from taketurns.config.policy import Guard, PatchRule, Policy
    from taketurns.config.settings import parse_bytes, parse_setting
    from taketurns.config.team_config import (
        EngineConfig,
        EngineKind,
        SwitcherConfig,
        SwitcherKind,
        TeamConfig,
    )

_HOME = {
    "BUNDLED": "bundled",
    "EngineConfig": "team_config",
    "EngineKind": "team_config",
    "Guard": "policy",
    "PatchRule": "policy",
    "Policy": "policy",
    "SwitcherConfig": "team_config",
    "SwitcherKind": "team_config",
    "TeamConfig": "team_config",
    "change_policy": "loading",
    "find_team_file": "loading",
    "load_settings": "loading",
    "load_team_config": "loading",
    "parse_bytes": "settings",
    "parse_setting": "settings",
}

__all__ = [
    "BUNDLED",
    "EngineConfig",
    "EngineKind",
    "Guard",
    "PatchRule",
    "Policy",
    "SwitcherConfig",
    "SwitcherKind",
    "TeamConfig",
    "change_policy",
    "find_team_file",
    "load_settings",
    "load_team_config",
    "parse_bytes",
    "parse_setting",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'taketurns.config' has no attribute {name!r}")
    value = getattr(import_module(f"taketurns.config.{_HOME[name]}"), name)
    globals()[name] = value
    return value
