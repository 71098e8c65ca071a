"""The folder a run writes: its own from the first moment, whole at the last.

A first file says what the run works on, its manifest with what; a folder of work is what a killed
run goes on from; `metrics.json` is written last, so a folder that has it is finished.
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
    """Make a folder with the folders `parts` in it. Raises DataError if it holds files, none of
    which has a name in `markers`: then it is no run's of this kind. `purpose` is what it is for."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is a file; name a folder for {purpose}")
    names = make_folder(path)
    if names and names.isdisjoint(markers):
        raise DataError(f"{path} holds other files already; choose another output")
    make_folder(path, *parts)


class RunFolder:
    """`path` as the output of the run that `manifest` describes, which begins with the file `first`
    and keeps what a killed run needs in the folder `work`."""

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
        """Make the folder this run's and hold it against other processes; `write_first` writes the
        first file. Raises DataError if it holds something else, or another process is writing
        it."""
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
        """What a finished run measured; None while it is not finished. Raises DataError."""
        try:
            metrics: Mapping[str, Any] = read_json(self._metrics)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self._metrics}: {error}") from error
        return metrics

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Everything else is written: say so, and drop what only a killed run needs."""
        write_json(self._metrics, metrics, ensure_ascii=True)
        self._manifest.finish(self.first)
        shutil.rmtree(self.work, ignore_errors=True)
