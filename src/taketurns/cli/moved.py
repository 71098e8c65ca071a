"""Commands that have left the package. For one release they name what does their work now."""

from __future__ import annotations

import typer

from taketurns.errors import UsageError

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def moved_command(app: typer.Typer, name: str, new: str) -> None:
    """Let a command take any arguments, say that `new` in the repository replaces it, and end with
    a mistake's exit code."""

    @app.command(name, hidden=True, context_settings=_ANY)
    def refuse(context: typer.Context) -> None:
        raise UsageError(
            f"{context.command_path} has moved: in the repository of taketurns, run {new}"
        )
