"""What a team file says: the candidates, the switcher, the engine and the policy."""

from taketurns.config.loading import (
    change_policy,
    find_team_file,
    load_settings,
    load_team_config,
)
from taketurns.config.policy import Guard, PatchRule, Policy
from taketurns.config.settings import parse_bytes, parse_setting
from taketurns.config.team_config import (
    BUNDLED,
    EngineConfig,
    EngineKind,
    SwitcherConfig,
    SwitcherKind,
    TeamConfig,
)

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
