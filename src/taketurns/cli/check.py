"""`taketurns check`: does this team work here?"""

from __future__ import annotations

from typing import Annotated

import typer

from taketurns.cli import options


def check(
    team: options.TeamOption,
    json_: options.JsonOption = False,
    weights: Annotated[
        bool, typer.Option(help="Search all weights for NaN, not only those of small models.")
    ] = False,
    set_: options.SetOption = None,
) -> None:
    """Check that a team fits this machine, or its servers.

    No weights are loaded. Servers are asked what they can do.
    """
    import asyncio

    from taketurns.generation.check import check_team

    report = asyncio.run(check_team(options.load_team(team, set_), all_weights=weights))
    options.print_result(report.to_json(), lambda: report, as_json=json_)
    if not report.fits:
        raise typer.Exit(options.FAILED)
