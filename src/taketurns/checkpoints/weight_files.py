"""The weight files of a checkpoint: those that transformers reads, in its order.

A folder may have several kinds: a single file beside an old index, safetensors beside pickles, a
file that config.json names. Code that reads other files than the engine describes another model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from taketurns.checkpoints import hub
from taketurns.errors import ConfigError
from taketurns.utils.json_files import read_json

CONFIG, EXPLICIT = "config.json", "transformers_weights"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SAFETENSORS = (WHOLE, INDEX)
ORDER = (*SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads from a folder, in its order: of a tensor in two files the
    last one counts. Files that an index or config.json names may be missing. Empty for a folder
    without weights.

    Raises ConfigError for an index that names no files, and for a config.json that names another
    kind of file or one outside the folder.
    """
    return all_files(lambda name: path if (path := folder / name).is_file() else None)


def all_files(find: Callable[[str], Path | None]) -> list[Path]:
    """The same for a checkpoint in any place; `find` as for `first_file`."""
    first = first_file(find)
    if first is None:
        return []
    return named_in(first) if first.name.endswith(".index.json") else [first]


def first_file(find: Callable[[str], Path | None]) -> Path | None:
    """The file that transformers opens first: the weights, or the index of several files. `find`
    returns the path of a file of the checkpoint, None if there is no such file. Raises ConfigError
    as `weight_files`."""
    config = find(CONFIG)
    if config is not None and (explicit := explicit_file(config)) is not None:
        return find(explicit) or config.parent / explicit
    return next((path for name in ORDER if (path := find(name)) is not None), None)


def named_in(index: Path) -> list[Path]:
    """The files that an index names. Raises ConfigError for an unreadable index."""
    try:
        names = read_json(index)["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{index} has no readable weight_map of the weight files; fetch or save it again"
        ) from error
    return [index.parent / name for name in sorted(set(names))]


def fetch_first(model: str, revision: str | None) -> Path | None:
    """`first_file` of a folder or of a hub model, from which it is fetched. Raises ConfigError."""
    return first_file(lambda name: hub.fetch("the model", model, name, revision))


def explicit_file(config: Path) -> str | None:
    """The weight file that a config.json names, if any. Raises ConfigError."""
    try:
        record = read_json(config)
    except (OSError, ValueError):
        return None  # loading reports it
    name = record.get(EXPLICIT) if isinstance(record, dict) else None
    if name is None:
        return None
    inside = isinstance(name, str) and not (
        PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    )
    if not inside or not name.endswith((".safetensors", ".safetensors.index.json")):
        raise ConfigError(
            f"{config}: {EXPLICIT} is {name!r}; it must name a safetensors file in the folder, or "
            "the index of several"
        )
    return str(name)
