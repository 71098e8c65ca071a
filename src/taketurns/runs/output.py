"""A file of records that survives whatever stops the program that writes it.

One JSON object a line, each with an "id", appended and flushed as it comes. A record with an
"error" stands for a failure and is tried again. What a killed run left is taken up as it is: a torn
last line is dropped, whole records are kept, none is ever written twice, and of an id that an
older version wrote twice the first whole record is kept.

A pipe, a terminal or another device is written as it comes: nothing is read back from it, so there
is no going on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from taketurns.errors import DataError
from taketurns.runs.manifest import Manifest, path_for
from taketurns.runs.records import decode_records, encode_record
from taketurns.utils.files import follow_link, is_stream, remove_drafts, write_bytes
from taketurns.utils.locks import lock_now

ItemT = TypeVar("ItemT")


@contextmanager
def open_run(path: Path | None, manifest: Manifest) -> Iterator[JsonlOutput]:
    """Make `path` this run's and append records to it; the manifest notes when it is through. A run
    that stops before its first record leaves nothing behind. What cannot be read back, a stream or
    standard output (None), has no manifest.

    Raises DataError if the file is another run's, or another process is writing it.
    """
    if path is None or is_stream(path):
        with JsonlOutput(path) as output:
            yield output
        return
    with lock_now(path):
        remove_drafts(path)
        remove_drafts(path_for(path))
        fresh = not path.exists()
        mine = manifest.claim(path)
        try:
            with JsonlOutput(path) as output:
                yield output
        except BaseException:
            if fresh and not (path.exists() and path.stat().st_size):
                follow_link(path).unlink(missing_ok=True)
                follow_link(path_for(path)).unlink(missing_ok=True)
            raise
        mine.finish(path)


class JsonlOutput:
    """Append records to `path`, going on where an earlier run stopped. None is standard output.
    No other process may write there meanwhile: `open_run` holds the file's lock.

    `kept` holds the ids that are done. `order` brings the file into the input's order, which it
    is in unless failed records were tried again.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = "standard output" if path is None else str(path)
        self._path = None if path is None or is_stream(path) else path
        self._own = path is not None
        self.kept: frozenset[str] = frozenset()
        if path is None:
            self._file: BinaryIO = sys.stdout.buffer
            return
        try:
            if self._path is not None and path.exists():
                self.kept = self._take_up(path)
            self._file = path.open("ab")
        except OSError as error:
            raise self._refused(error) from error

    def __enter__(self) -> JsonlOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if not self._own:
            return
        try:
            self._file.close()
        except OSError as failure:
            if kind is None:
                raise self._refused(failure) from failure

    def missing(
        self, items: Iterable[ItemT], key: Callable[[ItemT], str] = attrgetter("id")
    ) -> list[ItemT]:
        """The items without a record; `key` gives an item's id."""
        return [item for item in items if key(item) not in self.kept]

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; it outlives the process once this returns. Raises DataError where there
        is no room for it."""
        line = encode_record(record)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def order(self, ids: Iterable[str]) -> None:
        """Sort the finished file by the order of `ids`; a file that is sorted is left untouched."""
        if self._path is None:
            return
        rank = {identifier: place for place, identifier in enumerate(ids)}
        lines = _lines(self._path)
        records = decode_records(lines, str(self._path))
        ranked = [
            (rank.get(record.get("id", ""), len(rank)), line)
            for record, line in zip(records, lines, strict=True)
        ]
        ranks = [place for place, _ in ranked]
        if ranks != sorted(ranks):
            ranked.sort(key=lambda item: item[0])
            try:
                write_bytes(self._path, (line for _, line in ranked))
            except OSError as error:
                raise self._refused(error) from error

    @staticmethod
    def _take_up(path: Path) -> frozenset[str]:
        """Drop the torn last line, failed records and those whose id came before; the ids that
        stay."""
        whole = _lines(path)
        done: dict[str, bytes] = {}
        for record, line in zip(decode_records(whole, str(path)), whole, strict=True):
            if not failed(record):
                done.setdefault(str(record.get("id")), line)
        if sum(map(len, done.values())) != path.stat().st_size:
            write_bytes(path, done.values())
        return frozenset(done)

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"cannot write {self._name}: {error.strerror}")


def failed(record: Mapping[str, Any]) -> bool:
    """True for a record that stands for a failure."""
    return record.get("error") is not None


def without_repeats(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Records without those whose id a whole one had before: two processes of an older version
    could write one twice. Records without an id are all kept."""
    whole: set[str] = set()
    for record in records:
        identifier = record.get("id")
        if identifier is not None and str(identifier) in whole:
            continue
        if identifier is not None and not failed(record):
            whole.add(str(identifier))
        yield record


def _lines(path: Path) -> list[bytes]:
    """The whole lines of a file, with their newlines."""
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]
