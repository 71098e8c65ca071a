"""What the files of a checkpoint say of its weights, from the headers alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from taketurns import gguf, hub
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec

_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SIZES = {**_FLOATS, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}  # others: a byte
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MODEL, _ADAPTER = (_WHOLE, _INDEX), ("adapter_model.safetensors",)


@dataclass(frozen=True, slots=True)
class Tensor:
    """`kind` is what safetensors calls its type."""

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
        """Whether loading turns it into the precision that is asked for."""
        return self.kind in _FLOATS


def read_tensors(model: str, revision: str | None) -> list[Tensor] | None:
    """The tensors of a checkpoint; None where there are no headers to read: the weights are not
    downloaded yet, or are no safetensors.

    Raises ConfigError for a folder without weights, and for a file that is not whole.
    """
    return _read(model, revision, _MODEL)


def read_adapter_tensors(adapter: str) -> list[Tensor] | None:
    """The tensors of an adapter, as `read_tensors` gives a model's."""
    return _read(adapter, None, _ADAPTER)


def _read(model: str, revision: str | None, names: Sequence[str]) -> list[Tensor] | None:
    folder = Path(model)
    if folder.is_dir():
        files = _files(folder, names)
        if files is None and not any(folder.glob("*.bin")):
            raise ConfigError(f"there are no weights in {folder}")
        missing = [file for file in files or () if not file.exists()]
        if missing:
            raise ConfigError(f"{missing[0]} is missing, one of {len(files or ())} with weights")
    else:
        try:
            files = _downloaded(model, revision, names)
            if files is None:
                return _on_the_hub(model, revision, names)
        except hub.NoModelError:
            return None  # it may be on a server alone; loading it says what is wrong
    return None if files is None else [tensor for file in files for tensor in _header(file)]


def read_gguf_tensors(spec: ModelSpec) -> list[Tensor]:
    """The tensors of a model's GGUF file as they are loaded, which is as numbers of a float type
    and not in the file's blocks. Raises ConfigError as `gguf.read` does."""
    return [Tensor(tensor.name, "F32", tensor.shape) for tensor in gguf.read(spec).tensors]


def _files(folder: Path, names: Sequence[str]) -> list[Path] | None:
    """The safetensors that transformers or PEFT read in a folder, whether or not they are there."""
    for name in names:
        path = folder / name
        if path.exists():
            return _named(path) if name == _INDEX else [path]
    return None


def _named(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index} does not say which files have the weights") from error
    return [index.with_name(name) for name in sorted(set(names))]


def _header(file: Path) -> Iterator[Tensor]:
    size, tensors = file.stat().st_size, []
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError("a header longer than its file")
            header = json.loads(stream.read(length))
        end = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                end = max(end, tensor["data_offsets"][1])
                tensors.append(Tensor(name, tensor["dtype"], tuple(tensor["shape"])))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is no safetensors file, or not a whole one") from error
    if size < 8 + length + end:
        raise ConfigError(f"{file} is cut off: {size} of {8 + length + end} bytes are there")
    yield from tensors


def _downloaded(model: str, revision: str | None, names: Sequence[str]) -> list[Path] | None:
    """The files of a hub model, if all of them are in the cache."""
    from huggingface_hub import try_to_load_from_cache

    with hub.loading("the weights of", model, revision) as where:
        commit = where["revision"]
    for name in names:
        found = try_to_load_from_cache(model, name, revision=commit)
        if isinstance(found, str):
            files = _named(Path(found)) if name == _INDEX else [Path(found)]
            return files if all(file.exists() for file in files) else None
    return None


def _on_the_hub(model: str, revision: str | None, names: Sequence[str]) -> list[Tensor] | None:
    from huggingface_hub import get_safetensors_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError

    with hub.loading("the weights of", model, revision) as where:
        if where.get("local_files_only"):
            return None
        if names == _ADAPTER:  # small, and fetched whole anyway
            (name,) = names
            file = hub.fetch("the weights of", model, name, revision)
            return None if file is None else list(_header(file))
        try:
            metadata = get_safetensors_metadata(model, revision=where["revision"])
        except NotASafetensorsRepoError:
            return None
    return [
        Tensor(name, str(tensor.dtype), tuple(tensor.shape))
        for file in metadata.files_metadata.values()
        for name, tensor in file.tensors.items()
    ]
