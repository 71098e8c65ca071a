"""`taketurns serve`: the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from taketurns.cli import options
from taketurns.cli.base_consent import load_or_fetch
from taketurns.utils.extras import EXTRAS, require

_say = options.say_as()

EXAMPLES = (("age", 7), ("hop", 0), ("chain", 0), ("recall", 0))
"""Test questions of the pocket team's tasks: a task and the question's index."""


def serve(
    team: options.TeamOption = "pocket",
    host: Annotated[
        str | None, typer.Option(help="The address to listen on (default: 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", help="The port (default: 8000); 0 takes a free one."),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help="Require this key; may be repeated. Better set TAKETURNS_API_KEY."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The team's name (default: its file's name)."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="More settings, YAML (docs/serving.md)."),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser when it is ready.")
    ] = False,
    set_: options.SetOption = None,
) -> None:
    """Serve a team behind the OpenAI API, with a page."""
    from taketurns.config.bundled import BUNDLED

    require("serving", *EXTRAS["serve"])
    from taketurns.generation.team import Team
    from taketurns.server.config import default_name, read_settings
    from taketurns.server.run import serve as run

    settings = read_settings(config, host=host, port=port, name=name, api_keys=api_key)
    described = load_or_fetch(team, _say, set_)
    if team == BUNDLED and not settings.examples:
        settings = replace(settings, examples=_bundled_examples())
    run(Team.load(described), settings, default_name(team), _say, open_page=open_)


def _bundled_examples() -> tuple[str, ...]:
    """Example questions, for users who do not know the invented world."""
    from taketurns.pocket import TASKS

    return tuple(TASKS[task].queries("test")[number].text or "" for task, number in EXAMPLES)
