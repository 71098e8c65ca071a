"""What a team file says: the candidates, the switcher, the engine and the policy."""

from taketurns.config.policy import Guard, PatchRule, Policy
from taketurns.config.team_config import (
    EngineConfig,
    SwitcherConfig,
    TeamConfig,
    load_team_config,
)

__all__ = [
    "EngineConfig",
    "Guard",
    "PatchRule",
    "Policy",
    "SwitcherConfig",
    "TeamConfig",
    "load_team_config",
]
