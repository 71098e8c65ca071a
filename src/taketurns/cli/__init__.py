"""The command `taketurns`: `app` names the commands, each in a module of its own."""

from typing import NoReturn


def main() -> NoReturn:
    """The entry point. Importing a command's module does not import all others."""
    from taketurns.cli import app

    app.main()
