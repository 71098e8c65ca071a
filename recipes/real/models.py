"""The real models, which are in the package registry as data inside wheels, often in parts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A package with one part of a GGUF file: `member` is its path in the wheel, `size` is in
    bytes. Nothing of the package is installed or run."""

    package: str
    version: str
    member: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class RealModel:
    """A model with its `name` in the cache folder and in the team file. The joined `parts` are the
    GGUF file `gguf`; `parameters` is their number, tied ones counted once."""

    name: str
    gguf: str
    sha256: str
    parameters: int
    parts: tuple[WheelPart, ...]

    @property
    def size(self) -> int:
        """Bytes of the GGUF file."""
        return sum(part.size for part in self.parts)

    def gguf_in(self, cache: Path) -> Path:
        """The path of the GGUF file in a cache folder."""
        return cache / "gguf" / self.gguf

    def folder_in(self, cache: Path) -> Path:
        """The folder that `from_pretrained` loads."""
        return cache / self.name

    @property
    def converted_size(self) -> int:
        """An upper estimate of the bytes of the converted folder."""
        return FLOAT32 * self.parameters + (64 << 20)


def _read(path: Path) -> tuple[RealModel, ...]:
    with path.open("rb") as file:
        models = tomllib.load(file)["models"]
    return tuple(
        RealModel(**{**model, "parts": tuple(WheelPart(**part) for part in model["parts"])})
        for model in models
    )


MODELS = _read(Path(__file__).with_name("models.toml"))
"""A pretrained checkpoint, an aligned one and the strongest, of three families."""
