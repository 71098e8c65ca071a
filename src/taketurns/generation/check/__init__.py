"""`taketurns check`: does a team work here? Facts from files and servers; no weights are loaded."""

from __future__ import annotations

from taketurns.config.team_config import TeamConfig
from taketurns.generation.check.report import CheckReport


async def check_team(config: TeamConfig, *, all_weights: bool = False) -> CheckReport:
    """Inspect a team before it is loaded, or ask its servers. `all_weights` searches the weights of
    large models for NaN and infinity too. Raises ConfigError for a fault of the team file itself.
    """
    if config.engine.kind == "http":
        from taketurns.generation.check.served import inspect_servers

        return await inspect_servers(config)
    from taketurns.generation.check.local import inspect_team

    return await inspect_team(config, numbers=all_weights)
