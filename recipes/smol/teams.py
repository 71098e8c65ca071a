"""The team file of the package, on the base and the adapters of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taketurns.config.bundled import SMOL, TEAMS
from taketurns.utils.files import write_text


def write_team(path: Path, base: Path, **changes: dict[str, Any]) -> None:
    """Write the team file beside the adapters. `changes` replace keys of the file's mappings:
    `policy={"max_tokens": 64}`; a new `switcher` replaces the whole one."""
    team = yaml.safe_load(TEAMS[SMOL].team_file.read_text(encoding="utf-8"))
    for candidate in team["candidates"]:
        candidate["model"] = str(base)
    team["switcher"] = changes.pop("switcher", team["switcher"])
    for key, values in changes.items():
        team[key].update(values)
    write_text(path, yaml.safe_dump(team, sort_keys=False, allow_unicode=True))
