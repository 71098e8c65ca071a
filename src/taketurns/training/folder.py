"""The folder a training run writes: its own from the first moment, whole at the last.

A first file (`examples.jsonl`) says what is learned, its manifest with what; `checkpoints/` is what
a killed run goes on from; `metrics.json` is written last, so a folder that has it is finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest
from taketurns.utils.files import entries, write_whole
from taketurns.utils.finite import parse_json
from taketurns.utils.locks import alone

SCHEMA = "taketurns.switcher/1"


def read_metrics(path: Path) -> Mapping[str, Any] | None:
    """What a finished run wrote last; None where it is not there. Raises DataError."""
    try:
        record: Mapping[str, Any] = parse_json(path.read_text(encoding="utf-8"), strict=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return record


def write_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """There whole or not at all."""
    write_whole(path, [(json.dumps(record, indent=1) + "\n").encode("utf-8")])


class RunFolder:
    """`path` as the output of the run that `manifest` describes, which begins with the file
    `first`."""

    def __init__(self, path: Path, manifest: Manifest, first: str = "examples.jsonl") -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._first = path / first
        self._metrics = path / "metrics.json"
        self._manifest = manifest

    @contextmanager
    def claimed(self, write_first: Callable[[Path], None]) -> Iterator[None]:
        """Make the folder this run's and hold it against other processes. Raises DataError if it
        holds something else, or another process is writing it."""
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; name a folder for the switcher")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to {self.path}: {error.strerror}") from error
        with alone(self._first):
            self._claim(write_first)
            yield

    def _claim(self, write_first: Callable[[Path], None]) -> None:
        try:
            begun = self._first.exists()
            own = f"{self._first.stem}."
            strangers = [name for name in entries(self.path) if not name.startswith(own)]
        except OSError as error:
            raise DataError(f"cannot write to {self.path}: {error.strerror}") from error
        if strangers and not begun:
            raise DataError(f"{self.path} holds other files already; choose another output")
        self._manifest = self._manifest.claim(self._first)
        if not begun:
            write_first(self._first)
        if self.metrics is not None:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            return
        self.checkpoints.mkdir(exist_ok=True)

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """What a finished run measured; None while it is not finished."""
        return read_metrics(self._metrics)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Everything else is written: say so, and drop the checkpoints."""
        write_metrics(self._metrics, {"schema": SCHEMA, **metrics})
        self._manifest.finish(self._first)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
