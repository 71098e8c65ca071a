"""The output folder of a run.

A first file lists what the run works on, and its manifest has the inputs. A killed run continues
from a folder of work. `metrics.json` is written last, so a folder that has it is finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest, path_for
from taketurns.utils.files import make_folder
from taketurns.utils.json_files import read_json, write_json
from taketurns.utils.locks import lock_now


def claim_folder(
    path: Path, purpose: str, markers: Collection[str], parts: Collection[str] = ()
) -> None:
    """Make a folder with the folders `parts` in it. Raises DataError for a folder with files of
    which none is named in `markers`, since no run of this kind made it. `purpose` is what the
    folder is for."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is a file; name a folder for {purpose}")
    names = make_folder(path)
    if names and names.isdisjoint(markers):
        raise DataError(f"{path} holds other files already; choose another output")
    make_folder(path, *parts)


class RunFolder:
    """`path` as the output of the run that `manifest` describes. `first` is the first file that is
    written, `work` the folder with what a killed run needs."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        first: str,
        work: str = "checkpoints",
        purpose: str = "the switcher",
    ) -> None:
        self.path = path
        self.first = path / first
        self.work = path / work
        self._purpose = purpose
        self._metrics = path / "metrics.json"
        self._manifest = manifest

    @contextmanager
    def open(self, write_first: Callable[[Path], None] | None = None) -> Iterator[None]:
        """Claim the folder for this run and lock it; `write_first` writes the first file. Raises
        DataError if the folder holds something else, or if another process is writing it."""
        claim_folder(self.path, self._purpose, {self.first.name, path_for(self.first).name})
        with lock_now(self.first):
            begun = self.first.exists()
            self._manifest = self._manifest.claim(self.first)
            if write_first is not None and not begun:
                write_first(self.first)
            if self.metrics is None:
                self.work.mkdir(exist_ok=True)
            else:
                shutil.rmtree(self.work, ignore_errors=True)
            yield

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """The metrics of a finished run; None if it is not finished. Raises DataError if the file
        cannot be read."""
        try:
            metrics: Mapping[str, Any] = read_json(self._metrics)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self._metrics}: {error}") from error
        return metrics

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Mark the run as finished, and remove what only a killed run needs. Raises DataError."""
        write_json(self._metrics, metrics, ensure_ascii=True)
        self._manifest.finish(self.first)
        shutil.rmtree(self.work, ignore_errors=True)
