"""Records of proofs, so that each model is tried only once.

The key of a record has everything that the proof depends on: files and their times or the hub's
commit, settings, versions. If any of it changes, the record does not apply. A record that cannot be
read is ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from taketurns.utils.cache_folder import cache_folder
from taketurns.utils.files import write_bytes

_SCHEMA = 1
_READ = {".safetensors", ".bin", ".gguf", ".json", ".py", ".pt", ".pth"}


def default_folder() -> Path:
    """The folder of records in the package's cache folder."""
    return cache_folder() / "proofs"


class ProofRecords:
    """The records in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The proof for `key`; None if there is none or it cannot be read."""
        try:
            record = json.loads(self._path(key).read_text(encoding="utf-8"))
            if record["schema"] != _SCHEMA or record["key"] != _plain(key):
                return None
            proof = record["found"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return proof if isinstance(proof, dict) else None

    def write(self, key: dict[str, Any], proof: dict[str, Any]) -> None:
        """Keep a proof. If the folder cannot be written, the next load proves again."""
        path = self._path(key)
        record = {"schema": _SCHEMA, "key": _plain(key), "found": proof}
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, [(json.dumps(record, indent=1) + "\n").encode("utf-8")])

    def _path(self, key: dict[str, Any]) -> Path:
        text = json.dumps(_plain(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def identity(source: str, revision: str | None) -> list[list[Any]]:
    """The identity of a checkpoint, which changes when its files change: for a folder, the names,
    sizes and times of its files; for a download, the names of their link targets, which are
    hashes."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        snapshot = _downloaded(source, revision)
        if snapshot is None:
            return [[source, revision]]
        folder = snapshot
    return [list(entry) for entry in _files(folder)]


def _files(folder: Path) -> Iterator[tuple[Any, ...]]:
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ or not path.is_file():
            continue
        if path.is_symlink():
            yield path.name, path.resolve().name
        else:
            about = path.stat()
            yield path.name, about.st_size, about.st_mtime_ns


def _downloaded(source: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "adapter_config.json"):
        try:
            path = try_to_load_from_cache(source, name, revision=revision)
        except ValueError:  # not the name of a repository
            return None
        if isinstance(path, str):
            return Path(path).parent
    return None


def _plain(key: dict[str, Any]) -> Any:
    return json.loads(json.dumps(key, sort_keys=True, default=str))
