"""A file of records that survives whatever stops the program that writes it.

One JSON object a line, each with an "id", appended and flushed as it comes. A record with an
"error" stands for a failure and is tried again. What a killed run left is taken up as it is: a torn
last line is dropped, whole records are kept, none is ever written twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from taketurns.errors import DataError
from taketurns.locks import alone
from taketurns.manifest import Manifest, path_for
from taketurns.records import from_lines, to_line


@contextmanager
def claimed(path: Path, manifest: Manifest) -> Iterator[JsonlOutput]:
    """Make `path` this run's and append records to it; the manifest notes when it is through. A run
    that stops before its first record leaves nothing behind.

    Raises DataError if the file is another run's, or another process is writing it.
    """
    with alone(path):
        fresh = not path.exists()
        mine = manifest.claim(path)
        try:
            with JsonlOutput(path) as output:
                yield output
        except BaseException:
            if fresh and not (path.exists() and path.stat().st_size):
                path.unlink(missing_ok=True)
                path_for(path).unlink(missing_ok=True)
            raise
        mine.finish(path)


class JsonlOutput:
    """Append records to `path`, going on where an earlier run stopped. None is standard output.
    Nobody else may write there meanwhile: `claimed` sees to it.

    `kept` holds the ids that are done. `order` brings the file into the input's order, which it
    is in unless failed records were tried again.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.kept: frozenset[str] = frozenset()
        if path is None:
            self._file: BinaryIO = sys.stdout.buffer
            return
        try:
            if path.exists():
                self.kept = self._take_up(path)
            self._file = path.open("ab")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> JsonlOutput:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._path is not None:
            self._file.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; it outlives the process once this returns."""
        self._file.write(to_line(record))
        self._file.flush()

    def order(self, ids: Iterable[str]) -> None:
        """Sort the finished file by the order of `ids`; a file that is sorted is left untouched."""
        if self._path is None:
            return
        rank = {identifier: place for place, identifier in enumerate(ids)}
        lines = _lines(self._path)
        records = from_lines(lines, str(self._path))
        ranked = [
            (rank.get(record.get("id", ""), len(rank)), line)
            for record, line in zip(records, lines, strict=True)
        ]
        ranks = [place for place, _ in ranked]
        if ranks != sorted(ranks):
            ranked.sort(key=lambda item: item[0])
            _replace(self._path, (line for _, line in ranked))

    @staticmethod
    def _take_up(path: Path) -> frozenset[str]:
        """Drop the torn last line and failed records; the ids that stay."""
        whole = _lines(path)
        records = list(from_lines(whole, str(path)))
        done = [line for record, line in zip(records, whole, strict=True) if not failed(record)]
        if sum(map(len, done)) != path.stat().st_size:
            _replace(path, done)
        return frozenset(str(record.get("id")) for record in records if not failed(record))


def failed(record: Mapping[str, Any]) -> bool:
    """True for a record that stands for a failure."""
    return record.get("error") is not None


def _lines(path: Path) -> list[bytes]:
    """The whole lines of a file, with their newlines."""
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Write the file anew, so that at any moment either the old or the new one is there."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
