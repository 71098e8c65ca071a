"""The base model of a bundled team: it is fetched once into the cache, because it is too large for
the package. The team's adapters are in the package, each with a record of its base.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from taketurns.checkpoints.gguf_conversion import SOURCE
from taketurns.checkpoints.wheels import WheelModel
from taketurns.errors import ConfigError
from taketurns.utils.json_files import read_json, write_json

ADAPTERS_BASE = "base.json"
"""In an adapter's folder: the base that it was trained on."""
BFLOAT16 = 2  # bytes, in which the hub has the weights

BaseKind = Literal["wheel", "hub"]
"""Where a base comes from: a wheel of the package registry, with 4-bit values; or the hub, with
exact weights."""


@dataclass(frozen=True, slots=True)
class BaseVersion:
    """Which weights a base has: the hub's name of the model, where they are from, and the digest of
    the file there (for a wheel: of the GGUF file)."""

    repo: str
    source: BaseKind
    sha256: str

    @classmethod
    def of(cls, record: Any) -> BaseVersion | None:
        """The version in a record; None if the record does not have it."""
        if not isinstance(record, Mapping):
            return None
        repo, source, digest = map(record.get, ("repo", "source", "sha256"))
        if source not in ("wheel", "hub") or not isinstance(repo, str):
            return None
        return cls(repo, source, digest) if isinstance(digest, str) else None

    def __str__(self) -> str:
        return f"{self.repo} from the {self.source}, sha256 {self.sha256[:12]}…"


@dataclass(frozen=True, slots=True)
class BundledBase:
    """A base as it is pinned in the package: its name on the hub, its licence, and the same model
    in the package registry."""

    repo: str
    licence: str
    wheel: WheelModel

    @classmethod
    def read(cls, path: Path) -> BundledBase:
        """The base that a TOML file of the package describes."""
        with path.open("rb") as file:
            table = tomllib.load(file)
        return cls(table["repo"], table["licence"], WheelModel.from_table(table["wheel"]))

    def download_bytes(self, source: BaseKind) -> int:
        """About how many bytes are downloaded."""
        return self.wheel.size if source == "wheel" else BFLOAT16 * self.wheel.parameters

    def place(self, source: BaseKind) -> str:
        """Where the base is downloaded from, as a phrase."""
        if source == "wheel":
            return f"the package registry ({', '.join(map(str, self.wheel.parts))})"
        return f"the hub ({self.repo})"


def fetched_version(folder: Path) -> BaseVersion | None:
    """The version of the base in a folder; None if it was not fetched."""
    try:
        return BaseVersion.of(read_json(folder / SOURCE))
    except (OSError, ValueError):
        return None


def record_base(adapter: Path, base: BaseVersion) -> None:
    """Write into an adapter's folder which base it was trained on. Raises DataError."""
    write_json(adapter / ADAPTERS_BASE, asdict(base))


def adapters_version(adapter: Path) -> BaseVersion:
    """The version of the base that an adapter was trained on. Raises ConfigError if its record is
    missing or wrong."""
    path = adapter / ADAPTERS_BASE
    try:
        version = BaseVersion.of(read_json(path))
    except (OSError, ValueError):
        version = None
    if version is None:
        raise ConfigError(
            f"{path} must name the base of the adapter by repo, source and sha256: make the "
            "adapters again with python -m recipes.smol, or reinstall taketurns"
        )
    return version


def compare(base: BaseVersion, adapter: Path, cure: str) -> str | None:
    """Raise ConfigError, with the cure, if an adapter was trained on another model than the base.
    Returns a warning if it was trained on the 4-bit values of the same model."""
    trained = adapters_version(adapter)
    if trained.sha256 == base.sha256:
        return None
    if base.source == "hub" and base.repo == trained.repo:
        return (
            f"the base is {base}, but its adapters were trained on {trained}: answers differ a "
            f"little; for the very same weights, {cure}"
        )
    raise ConfigError(
        f"the base is {base}, but the adapters were trained on {trained} ({adapter}): {cure}"
    )
