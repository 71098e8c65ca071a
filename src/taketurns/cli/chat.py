"""`taketurns chat`: a conversation with a team in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from taketurns.cli import options
from taketurns.cli.base_consent import load_or_fetch

_say = options.say_as()


def chat(
    team: options.TeamOption = "pocket",
    speaker: Annotated[
        str | None, typer.Option(help="Talk with this candidate alone instead of the team.")
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Show the switcher's probabilities for each patch."),
    ] = False,
    schema: options.SchemaOption = None,
    seed: options.SeedOption = None,
    set_: options.SetOption = None,
) -> None:
    """Talk with a team in the terminal.

    Each patch has the colour and mark of its speaker.
    """
    from rich.console import Console

    from taketurns.cli.conversation import Chat
    from taketurns.generation.team import Team

    whole = Team.load(load_or_fetch(team, _say, set_, seed, schema))
    speaking = whole if speaker is None else whole.alone(speaker)
    if code := Chat(speaking, Console(), probabilities=probabilities).run():
        raise typer.Exit(code)
