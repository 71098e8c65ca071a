"""`taketurns export`: the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    team: Annotated[
        str, typer.Option("--team", "-t", help="A team file whose switcher is a head to fold.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    fold_switcher: Annotated[
        bool,
        typer.Option("--fold-switcher", help="Write the head into the candidates' own matrices."),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the team."),
    ] = None,
) -> None:
    """Write a team's checkpoints with its head inside, so that plain vLLM servers decide with each
    patch they write."""
    from taketurns.config.loading import load_team_config
    from taketurns.config.settings import parse_setting
    from taketurns.errors import UsageError
    from taketurns.integrations.export.run import export_folded

    if not fold_switcher:
        raise UsageError("say what to export: --fold-switcher is all there is so far")
    config = load_team_config(team, dict(parse_setting(setting) for setting in set_ or ()))
    export_folded(config, output, _say)


def _say(sentence: str) -> None:
    print(f"taketurns export: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
