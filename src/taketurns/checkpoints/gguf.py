"""Checkpoints in a GGUF file: the place of the file and its header.

The header has the contents of config.json, generation_config.json and the tokenizer's files, and
the table of tensors. transformers builds the model and the tokenizer from it. A file of which it
would silently ignore a part is refused here.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from taketurns.checkpoints import hub
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec

Read = TypeVar("Read")

NEEDED = ("gguf", "accelerate")
CURE = "pip install 'taketurns[gguf]'"

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_FLOAT32 = 0
_KEPT = 64  # values; of a longer array, such as a vocabulary, only the length is kept
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """`kind` is the number of its GGML type; `offset` is the beginning of its data, in bytes from
    the beginning of the tensors' data."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int

    @property
    def numbers(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The part of a file before its data. `metadata` has the length of a long array, such as the
    vocabulary, instead of the array; `data` is the beginning of the tensors' data and `size` the
    file's size, both in bytes."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    data: int
    size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    def floats(self, name: str) -> Any:
        """A tensor that is stored as float32, as a numpy array. Raises ConfigError for another
        type."""
        import numpy as np

        (tensor,) = (tensor for tensor in self.tensors if tensor.name == name)
        if tensor.kind != _FLOAT32:
            raise ConfigError(
                f"{self.path} stores {name} in another type than F32, which cannot be read here: "
                "name the checkpoint it was made from"
            )
        start = self.data + tensor.offset
        return np.fromfile(self.path, "<f4", tensor.numbers, offset=start).reshape(tensor.shape)

    def numbers(self, *, tied: bool) -> int:
        """The number of weights, without layers that predict further tokens. `tied`: the output
        matrix is the embedding and counts once."""
        last = self.metadata.get(f"{self.architecture}.block_count", 0)
        ahead = self.metadata.get(f"{self.architecture}.nextn_predict_layers", 0)
        skipped = ["rope_", *(f"blk.{number}." for number in range(last - ahead, last))]
        if tied:
            skipped.append("output.weight")
        return sum(
            tensor.numbers for tensor in self.tensors if not tensor.name.startswith(tuple(skipped))
        )

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The ids that end an answer: the end tokens of a text, a turn and a message."""
        ids = (self.metadata.get(f"tokenizer.ggml.{key}") for key in _ENDS)
        return frozenset(int(token) for token in ids if token is not None)


def once(read: Callable[[Path], Read]) -> Callable[[Path], Read]:
    """Cache what transformers reads from a file, until the file changes: reading a large vocabulary
    takes about ten seconds, several values are needed, and candidates may share a file."""

    @lru_cache(maxsize=8)
    def remembered(path: Path, size: int, changed: int) -> Read:
        return read(path)

    def reading(path: Path) -> Read:
        state = path.stat()
        return remembered(path, state.st_size, state.st_mtime_ns)

    return reading


def require_packages() -> None:
    """Raise ConfigError if a package that reads GGUF files is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"a GGUF file needs the package {missing[0]}: {CURE}")


def find(spec: ModelSpec) -> Path:
    """The GGUF file of a model: in its folder, or fetched from the hub. Raises ConfigError."""
    assert spec.gguf_file is not None, "for a model whose weights are in a GGUF file"
    folder = Path(spec.model).expanduser()
    path = hub.fetch("the model", spec.model, spec.gguf_file, spec.revision)
    if path is None and folder.is_dir():
        raise ConfigError(missing_file(spec.gguf_file, folder))
    if path is None:
        raise ConfigError(
            f"there is no {spec.gguf_file} in the repository {spec.model}: correct gguf_file"
        )
    return path


def missing_file(name: str, folder: Path) -> str:
    """A message that a folder has no such GGUF file, with the ones that it has."""
    there = sorted(path.name for path in folder.glob("*.gguf"))
    listed = f"; its GGUF files are {', '.join(there)}" if there else ": correct model or gguf_file"
    return f"there is no {name} in {folder}{listed}"


def read(spec: ModelSpec) -> GgufHeader:
    """The header of a model's GGUF file.

    Raises ConfigError if a package is missing, and for a file that is missing, incomplete, or not
    read correctly by transformers.
    """
    require_packages()
    header = read_header(find(spec))
    _require_whole(header)
    _require_readable(header)
    return header


def read_header(path: Path) -> GgufHeader:
    """The header of a file. Raises ConfigError for another kind of file, and for an incomplete
    header."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ConfigError(f"{path} is not a GGUF file; fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                return _HeaderReader(whole).header(path, size)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ConfigError(
            f"{path} is cut off or damaged: its header ends too early; fetch it again"
        ) from error


@dataclass
class _HeaderReader:
    """Reads a header from a mapped file, from front to back."""

    data: mmap.mmap
    at: int = len(_MAGIC)

    def header(self, path: Path, size: int) -> GgufHeader:
        version, tensors, entries = self._unpack("IQQ")
        if version not in _VERSIONS:
            known = " and ".join(map(str, _VERSIONS))
            raise ConfigError(
                f"{path} is GGUF version {version}; versions {known} can be read: convert the "
                "model again"
            )
        metadata = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(self._unpack("I")[0], path)
        if "general.architecture" not in metadata:
            raise ConfigError(
                f"{path} has no general.architecture in its header: convert the model again"
            )
        table = tuple(self._tensor() for _ in range(tensors))
        align = int(metadata.get("general.alignment", 32))
        return GgufHeader(path, metadata, table, -(-self.at // align) * align, size)

    def _tensor(self) -> GgufTensor:
        name = self._string()
        (dimensions,) = self._unpack("I")
        shape = self._unpack(f"{dimensions}Q")
        kind, offset = self._unpack("IQ")
        return GgufTensor(name, kind, tuple(reversed(shape)), offset)

    def _value(self, kind: int, path: Path) -> Any:
        if kind in _SCALARS:
            return self._unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ConfigError(
                f"{path} is damaged: its header has a value of type {kind}; fetch it again"
            )
        inner, length = self._unpack("IQ")
        if inner in _SCALARS and length > _KEPT:
            self.at += length * struct.calcsize(_SCALARS[inner])
            return length
        if inner == _STRING and length > _KEPT:
            for _ in range(length):
                self._skip_string()
            return length
        return [self._value(inner, path) for _ in range(length)]

    def _string(self) -> str:
        begin, end = self._skip_string()
        return self.data[begin:end].decode()

    def _skip_string(self) -> tuple[int, int]:
        (length,) = self._unpack("Q")
        begin, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise struct.error("a text beyond the end of the file")
        return begin, self.at

    def _unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values


def _require_whole(header: GgufHeader) -> None:
    import gguf

    parts = header.metadata.get("split.count", 1)
    if parts > 1:
        raise ConfigError(
            f"{header.path} is one of {parts} parts, which transformers does not put together: "
            "join them with llama-gguf-split --merge"
        )
    end = header.data
    for tensor in header.tensors:
        try:
            block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
        except (ValueError, KeyError):
            continue  # of an unknown type, which `_require_readable` reports
        end = max(end, header.data + tensor.offset + tensor.numbers // block * width)
    if header.size < end:
        raise ConfigError(
            f"{header.path} is cut off: it has {header.size} of {end} bytes; fetch it again"
        )


def _require_readable(header: GgufHeader) -> None:
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    # transformers writes some names with an underscore, the files without: qwen2_moe is qwen2moe.
    known = {_bare(name) for name in (*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_ARCHS)}
    if _bare(header.architecture) not in known:
        raise ConfigError(
            f"{header.path} has the architecture {header.architecture}, which transformers does "
            "not read from GGUF files: name the checkpoint it was made from"
        )
    for kind in dict.fromkeys(tensor.kind for tensor in header.tensors):
        if not _dequantizes(kind):
            name = next(tensor.name for tensor in header.tensors if tensor.kind == kind)
            raise ConfigError(
                f"{header.path} holds {name} in the type {_called(kind)}, which cannot be read "
                "here: take another quantisation of the model, such as Q8_0"
            )
    stretched = [t.name for t in header.tensors if t.name.startswith("rope_factors")]
    scaling = header.metadata.get(f"{header.architecture}.rope.scaling.type", "none")
    if scaling != "none" and header.architecture != "gpt-oss":
        stretched.insert(0, scaling)
    if stretched:
        raise ConfigError(
            f"{header.path} scales its rotary positions ({stretched[0]}), which transformers "
            "ignores in a GGUF file: name the checkpoint it was made from"
        )
    if (experts := header.metadata.get(f"{header.architecture}.expert_count", 0)) and (
        header.architecture == "llama"
    ):
        raise ConfigError(
            f"{header.path} is a mixture of {experts} experts under the architecture llama, which "
            "transformers would read without its experts: name the checkpoint it was made from"
        )


def _bare(architecture: str) -> str:
    return architecture.replace("-", "").replace("_", "").lower()


def _dequantizes(kind: int) -> bool:
    import gguf
    import numpy as np

    try:
        known = gguf.GGMLQuantizationType(kind)
        gguf.quants.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[known][1], np.uint8), known)
    except (ValueError, KeyError, NotImplementedError):
        return False
    return True


def _called(kind: int) -> str:
    import gguf

    try:
        return str(gguf.GGMLQuantizationType(kind).name)
    except ValueError:
        return f"number {kind}"
