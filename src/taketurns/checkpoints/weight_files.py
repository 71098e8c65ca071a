"""Which files of a checkpoint hold its weights: those that transformers reads, in its own order.

A folder may hold several: a single file beside an old index, safetensors beside pickles, a file
that config.json names. Code that reads other files than the engine runs describes another model.
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
    """The files that transformers reads from a folder, in the order in which it reads them: a
    tensor that is in two of them is the last one's. They need not be there where an index or
    config.json names them; empty for a folder without weights.

    Raises ConfigError for an index or a config.json that names none, or one outside the folder.
    """
    return all_files(lambda name: path if (path := folder / name).is_file() else None)


def all_files(find: Callable[[str], Path | None]) -> list[Path]:
    """The same of a checkpoint wherever it is; `find` as for `first_file`."""
    first = first_file(find)
    if first is None:
        return []
    return named_in(first) if first.name.endswith(".index.json") else [first]


def first_file(find: Callable[[str], Path | None]) -> Path | None:
    """What transformers opens first: the file itself, or the index of several. `find` gives the
    place of a file of the checkpoint, None where it has no such file. Raises ConfigError."""
    config = find(CONFIG)
    if config is not None and (explicit := explicit_file(config)) is not None:
        return find(explicit) or config.parent / explicit
    return next((path for name in ORDER if (path := find(name)) is not None), None)


def named_in(index: Path) -> list[Path]:
    """The files that an index names. Raises ConfigError."""
    try:
        names = read_json(index)["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{index} has no readable weight_map of the weight files; fetch or save it again"
        ) from error
    return [index.parent / name for name in sorted(set(names))]


def fetch_first(model: str, revision: str | None) -> Path | None:
    """`first_file` of a folder or, fetched, of a hub model. Raises ConfigError."""
    return first_file(lambda name: hub.fetch("the model", model, name, revision))


def explicit_file(config: Path) -> str | None:
    """The file that a config.json names for the weights. Raises ConfigError."""
    try:
        record = read_json(config)
    except (OSError, ValueError):
        return None  # loading will say
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
