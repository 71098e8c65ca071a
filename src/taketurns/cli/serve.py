"""`taketurns serve`: the command."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taketurns.cli import options
from taketurns.errors import UsageError
from taketurns.utils.extras import EXTRAS, require

if TYPE_CHECKING:
    from taketurns.server.config import ServeConfig

_say = options.say_as()

KEY_VARIABLE = "TAKETURNS_API_KEY"
EXAMPLES = (
    ("age", 7),
    ("hop", 0),
    ("chain", 0),
    ("recall", 0),
)  # the bundled team's test questions


def serve(
    team: options.TeamOption = "pocket",
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; without it 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Without it 8000; 0 takes a free one.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help=f"Ask for this key; may be repeated. Better in {KEY_VARIABLE}."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the team is called; without it as its file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="More settings, YAML (docs/serving.md).")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser when it is ready.")
    ] = False,
    set_: options.SetOption = None,
) -> None:
    """Serve a team behind the OpenAI API, with a page to watch it write."""
    from taketurns.config.team_config import BUNDLED

    require("serving", *EXTRAS["serve"])
    from taketurns.generation.team import Team
    from taketurns.server.run import serve as run

    settings = read_settings(config, host=host, port=port, name=name, api_keys=api_key)
    described = options.load_team(team, set_)
    if team == BUNDLED and not settings.examples:
        settings = replace(settings, examples=_bundled_examples())
    run(Team.load(described), settings, called_after(team), _say, open_page=open_)


def called_after(team: str) -> str:
    """A team is called as its file, or as the folder of a `team.yaml`."""
    path = Path(team).absolute()
    return path.parent.name if path.name == "team.yaml" else path.stem


def _bundled_examples() -> tuple[str, ...]:
    """Nobody knows what to ask of an invented world."""
    from taketurns.pocket import TASKS

    return tuple(TASKS[task].queries("test")[number].text or "" for task, number in EXAMPLES)


def read_settings(
    config: Path | None, *, api_keys: list[str] | None = None, **given: Any
) -> ServeConfig:
    """The command line before the file before the defaults; a key also from the environment."""
    from taketurns.config.loading import load_settings
    from taketurns.server.config import ServeConfig

    settings = ServeConfig() if config is None else load_settings(config, ServeConfig, "serve file")
    keys = tuple(api_keys or ()) or settings.api_keys
    if not keys and (key := os.environ.get(KEY_VARIABLE)) is not None:
        if not key.strip():
            raise UsageError(
                f"the variable {KEY_VARIABLE} is empty: give it a key, or unset it to serve without"
            )
        keys = (key,)
    changes = {key: value for key, value in given.items() if value is not None}
    return replace(settings, **changes, api_keys=keys)
