"""Will a team work here? What `taketurns check` finds: facts from files and servers, no weights."""

from __future__ import annotations

from taketurns.config.team_config import TeamConfig
from taketurns.generation.check.report import CheckReport


async def check_team(config: TeamConfig, *, all_weights: bool = False) -> CheckReport:
    """Look at a team before it is loaded, or ask its servers. `all_weights` reads the numbers of
    large models too. Raises ConfigError where the team file itself is at fault."""
    if config.engine.kind == "http":
        from taketurns.generation.check.served import inspect_servers

        return await inspect_servers(config)
    from taketurns.generation.check.local import inspect_team

    return await inspect_team(config, numbers=all_weights)
