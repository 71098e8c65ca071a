"""`taketurns export`: the command."""

from __future__ import annotations

from typing import Annotated

import typer

from taketurns.cli import options

_say = options.say_as("export")


def export(
    team: Annotated[
        str, typer.Option("--team", "-t", help="A team file whose switcher is a head to fold.")
    ],
    output: options.FolderOption,
    fold_switcher: Annotated[
        bool,
        typer.Option("--fold-switcher", help="Write the head into the candidates' own matrices."),
    ] = False,
    set_: options.SetOption = None,
) -> None:
    """Write a team's checkpoints with its switcher's head inside.

    Plain vLLM servers then decide with each patch that they write.
    """
    from taketurns.errors import UsageError
    from taketurns.integrations.export.run import export_folded

    if not fold_switcher:
        raise UsageError("say what to export: --fold-switcher is all there is so far")
    config = options.load_team(team, set_)
    export_folded(config, output, _say)
