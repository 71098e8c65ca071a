"""Names, types and shapes of a checkpoint's weights, read from the headers of its files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from taketurns.checkpoints import gguf, hub
from taketurns.checkpoints.weight_files import CONFIG, all_files, explicit_file, weight_files
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec
from taketurns.utils.json_files import parse_json

_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SIZES = {**_FLOATS, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}  # others: a byte
_ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`kind` is the safetensors name of its type."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        return self.numbers * _SIZES.get(self.kind, 1)

    @property
    def floating(self) -> bool:
        """Whether loading converts it to the requested precision."""
        return self.kind in _FLOATS


def read_tensors(model: str, revision: str | None) -> list[TensorInfo] | None:
    """The tensors of a checkpoint that transformers loads; None if there are no headers to read,
    because the weights are not downloaded yet or are not safetensors.

    Raises ConfigError for a folder without weights, and for an incomplete file.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (files := weight_files(folder)):
            raise ConfigError(f"there are no weights in {folder}: fetch or save the model again")
        return _read(files)
    place = _commit(model, revision)
    if place is None:
        return None
    commit, offline = place
    files = _downloaded(model, commit)
    if not files:
        return None if offline else _on_the_hub(model, revision)
    return _read(files) if all(file.exists() for file in files) else None


def _downloaded(model: str, revision: str | None) -> list[Path]:
    """The weight files of a hub model in the cache; empty if it has none."""
    return all_files(lambda name: _cached(model, name, revision))


def local_files(model: str, revision: str | None) -> list[Path]:
    """The safetensors files of a checkpoint that transformers loads; empty if one of them is not on
    this machine."""
    folder = Path(model).expanduser()
    files = weight_files(folder) if folder.is_dir() else _downloaded(model, revision)
    there = all(file.exists() and file.suffix == ".safetensors" for file in files)
    return files if there else []


def local_adapter_files(adapter: str) -> list[Path]:
    """The safetensors file of an adapter; empty if it is not on this machine."""
    folder = Path(adapter).expanduser()
    file = folder / _ADAPTER if folder.is_dir() else _cached(adapter, _ADAPTER, None)
    return [file] if file is not None and file.is_file() else []


def read_adapter_tensors(adapter: str) -> list[TensorInfo] | None:
    """The tensors of an adapter, as `read_tensors` for a model."""
    folder = Path(adapter).expanduser()
    if folder.is_dir():
        if (file := folder / _ADAPTER).is_file():
            return _read([file])
        if any(folder.glob("*.bin")):
            return None
        raise ConfigError(f"there are no weights in {folder}: fetch or save the adapter again")
    place = _commit(adapter, None)
    if place is None:
        return None
    commit, offline = place
    if offline:
        weights = _cached(adapter, _ADAPTER, commit)
    else:  # small, and loaded whole anyway
        weights = hub.fetch("the weights of", adapter, _ADAPTER)
    return None if weights is None else _read([weights])


def _commit(name: str, revision: str | None) -> tuple[str | None, bool] | None:
    """The commit on the hub, and whether only the cache may be read; None if there is none: the
    model may be only on a server, and otherwise loading it reports the error."""
    try:
        with hub.loading("the weights of", name, revision) as where:
            return where["revision"], bool(where.get("local_files_only"))
    except hub.NoModelError:
        return None


def read_gguf_tensors(spec: ModelSpec) -> list[TensorInfo]:
    """The tensors of a model's GGUF file as they are loaded: as floats, not as the file's
    quantised blocks. Raises ConfigError as `gguf.read` does."""
    return [TensorInfo(tensor.name, "F32", tensor.shape) for tensor in gguf.read(spec).tensors]


def _read(files: Sequence[Path]) -> list[TensorInfo] | None:
    """The tensors of the files; of a tensor in two files the last one counts. None for other kinds
    of files. Raises ConfigError for a missing or incomplete file."""
    if missing := [file for file in files if not file.exists()]:
        raise ConfigError(
            f"{missing[0]} is missing, one of {len(files)} weight files: fetch or save it again"
        )
    if any(file.suffix != ".safetensors" for file in files):
        return None
    return list({tensor.name: tensor for file in files for tensor in _header(file)}.values())


def _header(file: Path) -> Iterator[TensorInfo]:
    size, tensors = file.stat().st_size, []
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError("a header longer than its file")
            header = parse_json(stream.read(length), strict=False)
        end = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                end = max(end, tensor["data_offsets"][1])
                tensors.append(TensorInfo(name, tensor["dtype"], tuple(tensor["shape"])))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} is not a safetensors file, or is cut off; fetch or save it again"
        ) from error
    if size < 8 + length + end:
        raise ConfigError(
            f"{file} is cut off: it has {size} of {8 + length + end} bytes; fetch or save it again"
        )
    yield from tensors


def _cached(model: str, name: str, commit: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model, name, revision=commit)
    return Path(path) if isinstance(path, str) else None


def _on_the_hub(model: str, revision: str | None) -> list[TensorInfo] | None:
    """The tensors of weights that are not downloaded, from the headers on the hub."""
    from huggingface_hub import get_safetensors_metadata, parse_safetensors_file_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError

    config = hub.fetch("the weights of", model, CONFIG, revision)
    explicit = None if config is None else explicit_file(config)
    if explicit is not None and explicit.endswith(".index.json"):
        return None  # its files are not those that the hub lists
    with hub.loading("the weights of", model, revision) as where:
        commit = where["revision"]
        try:
            files = (
                list(get_safetensors_metadata(model, revision=commit).files_metadata.values())
                if explicit is None
                else [parse_safetensors_file_metadata(model, explicit, revision=commit)]
            )
        except NotASafetensorsRepoError:
            return None
    return [
        TensorInfo(name, str(tensor.dtype), tuple(tensor.shape))
        for file in files
        for name, tensor in file.tensors.items()
    ]
