"""The command `taketurns`: `app` names the commands; each has its own module."""

from typing import NoReturn


def main() -> NoReturn:
    """The entry point. Importing one command's module does not import the others."""
    from taketurns.cli import app

    app.main()
