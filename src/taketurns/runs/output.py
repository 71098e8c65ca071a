"""A file of records that a killed run can continue.

It has one JSON object per line, each with an "id", appended and flushed at once. A record with an
"error" is a failure and is tried again. When a run continues, an incomplete last line is removed,
complete records are kept and not written again, and of an id that an older version wrote twice the
first complete record is kept.

A pipe, a terminal or another device cannot be read back, so such an output cannot be continued.
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
    """Claim `path` for this run and append records to it; the manifest gets the time of the end. A
    run that stops before its first record leaves no file. A stream or standard output (None), which
    cannot be read back, has no manifest.

    Raises DataError if the file belongs to another run, or if another process is writing it.
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
    """Appends records to `path` (None: standard output), continuing an earlier run. No other
    process may write to it: `open_run` holds the file's lock.

    `kept` has the ids of finished records. `order` sorts the file into the order of the input, from
    which it differs only if failed records were tried again.
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
        """Append a record; it is in the file when this returns. Raises DataError if it cannot be
        written."""
        line = encode_record(record)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def order(self, ids: Iterable[str]) -> None:
        """Sort the finished file by the order of `ids`; a sorted file is left unchanged."""
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
        """Remove an incomplete last line, failed records and repeated ids; the ids that remain."""
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
    """Whether a record is a failure."""
    return record.get("error") is not None


def without_repeats(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The records without repeated ids: two processes of an older version could write a record
    twice. The first complete record of an id is kept, and all records without an id."""
    whole: set[str] = set()
    for record in records:
        identifier = record.get("id")
        if identifier is not None and str(identifier) in whole:
            continue
        if identifier is not None and not failed(record):
            whole.add(str(identifier))
        yield record


def _lines(path: Path) -> list[bytes]:
    """The complete lines of a file, with their newlines."""
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]
