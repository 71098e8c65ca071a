"""The manifest of a run, written beside its output as `<output>.manifest.json`.

`inputs` decide the records: the team, the policy with its seed, the models' contents and the data.
An output whose manifest has other inputs belongs to another run and is refused. The rest (versions,
commit, times, paths) is for the reader. In the file, the inputs are under "determined".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.utils.json_files import read_json, write_json

SCHEMA = "taketurns.manifest/1"
PARTS = "own parts"
"""The input that describes the code of a user's own tasks and scorers: a list for each task."""


@dataclass(frozen=True)
class Manifest:
    """`inputs` decide the records; `about` is for the reader. Both hold plain JSON values."""

    command: str
    inputs: Mapping[str, Any]
    about: Mapping[str, Any]
    started: str
    finished: str | None = None

    @property
    def identity(self) -> str:
        """A hash that is equal for two runs with equal command and inputs."""
        return digest([self.command, self.inputs])

    def with_inputs(self, **inputs: Any) -> Manifest:
        """The same run with more inputs, or with other values of some."""
        return replace(self, inputs={**self.inputs, **inputs})

    def with_inputs_of(self, *names: str) -> Manifest:
        """The same run with these of its inputs alone, where it has them."""
        kept = {name: value for name, value in self.inputs.items() if name in names}
        return replace(self, inputs=kept)

    def claim(self, output: Path, *extensible: str) -> Manifest:
        """Claim `output` for this run before its first record, by writing the manifest.

        A continued run keeps the time of its first start. `extensible` may name inputs that are
        mappings, as the user's own parts are: keys that only the output's manifest has are kept.
        Raises DataError if the output belongs to another run, or if it has no manifest.
        """
        path = path_for(output)
        if output.is_dir():
            raise DataError(f"cannot write {output}: it is a folder; name a file")
        mine = self
        if output.exists() and output.stat().st_size:
            if not path.exists():
                raise DataError(
                    f"{output} exists and has no manifest beside it ({path.name}), so it cannot be "
                    "continued; choose another output, or remove it"
                )
            theirs = _read(path)
            before, mine = self._extended(theirs, (PARTS, *extensible))
            if theirs.get("identity") != before.identity:
                raise DataError(before._difference(output, theirs))
            mine = replace(mine, started=theirs.get("started", self.started))
        elif path.exists() and not _is_ours(path):
            raise DataError(
                f"{path} is not a manifest of taketurns, and the manifest of {output} would "
                "replace it; choose another output"
            )
        mine.write(output)
        return mine

    def _extended(
        self, theirs: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[Manifest, Manifest]:
        """The manifest that `theirs` must equal if this run only extends it, and the manifest of
        this run with their further keys."""
        before, now = dict(self.inputs), dict(self.inputs)
        for name in names:
            mine, known = self.inputs.get(name) or {}, _inputs(theirs).get(name) or {}
            if not isinstance(known, dict) or any(
                mine.get(key, value) != value for key, value in known.items()
            ):
                continue  # changed, not extended
            for inputs, value in ((before, known), (now, {**known, **mine})):
                inputs.pop(name, None)
                inputs.update({name: value} if value else {})
        return replace(self, inputs=before), replace(self, inputs=now)

    def write(self, output: Path) -> None:
        """Write the manifest beside the output. Raises DataError."""
        record = {
            "schema": SCHEMA,
            "identity": self.identity,
            "command": self.command,
            "determined": self.inputs,
            "about": self.about,
            "started": self.started,
            "finished": self.finished,
        }
        write_json(path_for(output), record, indent=2)

    def finish(self, output: Path) -> None:
        """Write the manifest with the time of the end. Raises DataError."""
        replace(self, finished=now()).write(output)

    def _difference(self, output: Path, theirs: Mapping[str, Any]) -> str:
        known = _inputs(theirs)
        names = [
            name
            for name in dict.fromkeys([*self.inputs, *known])
            if digest(known.get(name)) != digest(self.inputs.get(name))
        ]
        if PARTS in names:
            of_tasks = self.inputs.get(PARTS) or {}, known.get(PARTS) or {}
            at = names.index(PARTS)
            names[at : at + 1] = [f"part {part}" for part in _differing(*of_tasks)] or [PARTS]
        differ = " and ".join(names) or "command"
        return (
            f"{output} belongs to another run, whose {differ} differed; choose another output, or "
            "remove it and its manifest"
        )


def path_for(output: Path) -> Path:
    """The path of an output's manifest."""
    return output.with_name(output.name + ".manifest.json")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the manifest {path}: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} is not a manifest; choose another output")
    return record


def _inputs(record: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = record.get("determined")
    return inputs if isinstance(inputs, dict) else {}


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The names of parts that are other code for a task that both runs have."""
    return list(
        dict.fromkeys(
            part["name"]
            for task, parts in mine.items()
            for part in parts
            if part not in theirs.get(task, parts)
        )
    )


def _is_ours(path: Path) -> bool:
    with suppress(OSError, ValueError):
        record = read_json(path)
        return isinstance(record, dict) and record.get("schema") == SCHEMA
    return False


def digest(value: Any) -> str:
    """A hash that is equal for equal JSON values."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def now() -> str:
    """The time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
