"""`taketurns export`: the command."""

from __future__ import annotations

from typing import Annotated

import typer

from taketurns.cli import options

_say = options.say_as("export")


def export(
    team: Annotated[
        str, typer.Option("--team", "-t", help="A team file with a head as its switcher.")
    ],
    output: options.FolderOption,
    fold_switcher: Annotated[
        bool,
        typer.Option("--fold-switcher", help="Write the head into the candidates' checkpoints."),
    ] = False,
    set_: options.SetOption = None,
) -> None:
    """Write a team's checkpoints with its switcher's head inside.

    Plain vLLM servers then decide with each patch that they write.
    """
    from taketurns.errors import UsageError
    from taketurns.integrations.export.run import export_folded

    if not fold_switcher:
        raise UsageError("what to export is missing: add --fold-switcher")
    config = options.load_team(team, set_)
    export_folded(config, output, _say)
