"""Commands that have left the package. For one release they name their replacement."""

from __future__ import annotations

import typer

from taketurns.errors import UsageError

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def moved_command(app: typer.Typer, name: str, new: str) -> None:
    """Add a command that accepts any arguments and raises UsageError, which names its replacement
    `new` in the repository."""

    @app.command(name, hidden=True, context_settings=_ANY)
    def refuse(context: typer.Context) -> None:
        raise UsageError(
            f"{context.command_path} has moved: in the repository of taketurns, run {new}"
        )
