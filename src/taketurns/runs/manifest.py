"""What a run was made with, written beside its output as `<output>.manifest.json`.

`inputs` is what decides the records: the team, the policy with its seed, the models' contents, the
data. An output whose manifest has other inputs belongs to another run and is refused. The rest
(versions, commit, times, paths) is for the reader. In the file, the inputs are under "determined".
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from taketurns import __version__
from taketurns.checkpoints.weight_files import weight_files
from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError
from taketurns.switchers import candidate_order, head
from taketurns.types import ModelSpec
from taketurns.utils.json_files import read_json, write_json

SCHEMA = "taketurns.manifest/1"
WHOLE = 64 << 20  # files up to this size are read whole for a fingerprint
PARTS = {".json", ".safetensors", ".bin", ".jinja", ".model", ".txt"}


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
        """Equal for two runs whose records must be equal."""
        return _digest([self.command, self.inputs])

    def with_inputs(self, **inputs: Any) -> Manifest:
        """The same run with more inputs, or with other values of some."""
        return replace(self, inputs={**self.inputs, **inputs})

    def with_inputs_of(self, *names: str) -> Manifest:
        """The same run with these of its inputs alone."""
        return replace(self, inputs={name: self.inputs[name] for name in names})

    def claim(self, output: Path, extensible: str | None = None) -> Manifest:
        """Make `output` this run's before its first record, or raise DataError if it is another's.

        A run that goes on keeps the time of its first start. `extensible` may name an input that is
        a mapping: what the output has under other keys is kept and claimed along.
        """
        path = path_for(output)
        if output.is_dir():
            raise DataError(f"cannot write {output}: it is a folder")
        mine = self
        if output.exists() and output.stat().st_size:
            if not path.exists():
                raise DataError(
                    f"{output} exists and has no manifest beside it; choose another output"
                )
            theirs = _read(path)
            before, mine = self._extended(theirs, extensible)
            if theirs.get("identity") != before.identity:
                raise DataError(self._difference(output, theirs))
            mine = replace(mine, started=theirs.get("started", self.started))
        elif path.exists() and not _is_ours(path):
            raise DataError(
                f"{path} is no manifest of taketurns, and that of {output} would be written over "
                "it; choose another output"
            )
        mine.write(output)
        return mine

    def _extended(self, theirs: Mapping[str, Any], name: str | None) -> tuple[Manifest, Manifest]:
        """What this run's manifest was if `theirs` was only extended, and what it is now."""
        if name is None or name not in self.inputs:
            return self, self
        mine, known = self.inputs[name], _inputs(theirs).get(name) or {}
        if any(mine.get(key, value) != value for key, value in known.items()):
            return self, self
        return self.with_inputs(**{name: known}), self.with_inputs(**{name: {**known, **mine}})

    def write(self, output: Path) -> None:
        """Write the manifest beside the output. Raises DataError if that cannot be done."""
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
        """Note the end of the run."""
        replace(self, finished=_now()).write(output)

    def _difference(self, output: Path, theirs: Mapping[str, Any]) -> str:
        known = _inputs(theirs)
        names = [
            name
            for name in dict.fromkeys([*self.inputs, *known])
            if _digest(known.get(name)) != _digest(self.inputs.get(name))
        ]
        differ = " and ".join(names) or "command"
        return (
            f"{output} belongs to another run, whose {differ} differed; choose another output, or "
            "remove it and its manifest"
        )


def describe_run(command: str, team: TeamConfig, data: bytes, **about: Any) -> Manifest:
    """The manifest of a run that starts now. `data` is its input, `about` more for the reader."""
    prints = {name: fingerprint(spec) for name, spec in _models(team)}
    return Manifest(
        command=command,
        inputs={
            "candidates": [
                [candidate.name, _content(candidate.spec, prints[candidate.name])]
                for candidate in team.candidates
            ],
            "switcher": _switcher(team, prints),
            "policy": _policy(team, prints),
            "input": sha256(data).hexdigest(),
        },
        about={
            "team": _plain(asdict(team)),
            "fingerprints": prints,
            "versions": _versions(),
            "commit": _commit(),
            **about,
        },
        started=_now(),
    )


def path_for(output: Path) -> Path:
    """Where the manifest of an output stands."""
    return output.with_name(output.name + ".manifest.json")


def fingerprint(spec: ModelSpec) -> str | None:
    """A digest of a local model's files, or the commit of a hub model that is in the cache, else
    None.

    Small files count whole, of a large one its size, its beginning (where safetensors says what is
    in it) and its end. Whose a switcher's numbers are does not count.
    """
    prints = [_folder(Path(name)) or _cached(name, revision) for name, revision in _places(spec)]
    if spec.gguf_file is not None:
        path = Path(spec.model) / spec.gguf_file
        prints[0] = (
            _file(path) if path.is_file() else _cached(spec.model, spec.revision, spec.gguf_file)
        )
    if not any(prints):
        return None
    return prints[0] if len(prints) == 1 else _digest(prints)


def _switcher(team: TeamConfig, prints: Mapping[str, str | None]) -> dict[str, Any]:
    """The switcher, and whose its numbers are where that is not the team's order."""
    switcher, names = team.switcher, tuple(candidate.name for candidate in team.candidates)
    record = _plain(asdict(switcher))
    numbered = list(candidate_order.resolve(switcher) or names)
    elsewhere = {} if numbered == list(names) else {"candidates": numbered}
    return {
        **{k: v for k, v in record.items() if k not in ("endpoint", "candidates")},
        "spec": switcher.spec and _content(switcher.spec, prints["switcher"]),
        "path": switcher.path and (_head(switcher.path) or switcher.path),
        **elsewhere,
    }


def _head(source: str) -> str | None:
    """A digest of a local head, without what stands beside it."""
    files = [Path(source) / name for name in (head.CONFIG, head.WEIGHTS)]
    return _digest([_file(file) for file in files]) if all(map(Path.is_file, files)) else None


def _places(spec: ModelSpec) -> Iterator[tuple[str, str | None]]:
    yield spec.model, spec.revision
    if spec.adapter is not None:
        yield spec.adapter, None
    if spec.tokenizer is not None:
        yield spec.tokenizer_source


def _models(team: TeamConfig) -> Iterator[tuple[str, ModelSpec]]:
    for candidate in team.candidates:
        yield candidate.name, candidate.spec
    if team.switcher.spec is not None:
        yield "switcher", team.switcher.spec
    if team.judge is not None:
        yield team.judge.name, team.judge.spec


def _policy(team: TeamConfig, prints: Mapping[str, str | None]) -> dict[str, Any]:
    """The policy, and what the guard's judge is; rules that are not used are left out, so that an
    output from before there were such rules can be gone on with."""
    policy = _plain(asdict(team.policy))
    record = {k: v for k, v in policy.items() if v or k not in ("guard", "max_share", "patch")}
    if team.judge is not None:
        record["judge"] = _content(team.judge.spec, prints[team.judge.name])
    return record


def _content(spec: ModelSpec, content: str | None) -> Any:
    """A model's settings with local paths replaced by what is in them, so that a folder may move;
    newer settings that are not used are left out, as in an output from before there were such."""
    record = _plain(asdict(spec))
    newer = ("tokenizer_revision", "gguf_file")
    record = {k: v for k, v in record.items() if v is not None or k not in newer}
    local = [
        key
        for key in ("model", "adapter", "tokenizer")
        if record[key] and Path(record[key]).exists()
    ]
    return {**record, **dict.fromkeys(local, content)}


def _folder(path: Path) -> str | None:
    if not path.is_dir():
        return None
    parts = {
        part.name: part
        for part in path.iterdir()
        if part.suffix in PARTS and part.is_file() and part.name != candidate_order.FILE
    }
    elsewhere = (part for part in weight_files(path) if part.parent != path and part.is_file())
    parts |= {str(part.relative_to(path)): part for part in elsewhere}
    return _digest(
        [[name, part.stat().st_size, _file(part)] for name, part in sorted(parts.items())]
    )


def _file(path: Path) -> str:
    with path.open("rb") as file:
        if path.stat().st_size <= WHOLE:
            return sha256(file.read()).hexdigest()
        digest = sha256(file.read(WHOLE // 8))
        file.seek(-WHOLE // 8, os.SEEK_END)
        digest.update(file.read())
        return digest.hexdigest()


def _cached(name: str, revision: str | None, gguf_file: str | None = None) -> str | None:
    """The commit of a hub model that was downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in ("config.json", "adapter_config.json", *([gguf_file] if gguf_file else [])):
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def _versions() -> dict[str, str | None]:
    packages = ("torch", "transformers", "tokenizers", "numpy")
    return {
        "taketurns": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this package's source, with a + if it was changed since; None when
    installed."""
    here = Path(__file__).parent
    try:
        if not _git(here, "ls-files", "__init__.py"):
            return None
        return _git(here, "rev-parse", "HEAD") + (
            "+" if _git(here, "status", "--porcelain", ".") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the manifest {path}: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} is not a manifest")
    return record


def _inputs(record: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = record.get("determined")
    return inputs if isinstance(inputs, dict) else {}


def _is_ours(path: Path) -> bool:
    with suppress(OSError, ValueError):
        record = read_json(path)
        return isinstance(record, dict) and record.get("schema") == SCHEMA
    return False


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON values only: tuples as lists, paths as strings."""
    return json.loads(json.dumps(value, default=str))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
