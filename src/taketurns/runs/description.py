"""The inputs that decide a run's records: models, policy and data.

A model is identified by the contents of its files, so its folder may move. Newer settings are left
out if they are not used, so that outputs of older versions can be continued.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from taketurns import __version__
from taketurns.checkpoints.weight_files import weight_files
from taketurns.config.sampling import sampling_entry
from taketurns.config.team_config import EngineKind, SwitcherKind, TeamConfig
from taketurns.runs.manifest import Manifest, digest, now
from taketurns.switchers import candidate_order, head, routing_head
from taketurns.types import ModelSpec
from taketurns.utils.commits import source_commit
from taketurns.utils.parts import Group, describe_part

WHOLE = 64 << 20  # files up to this size are read whole for a fingerprint
PARTS = {".json", ".safetensors", ".bin", ".jinja", ".model", ".txt"}


def describe_run(command: str, team: TeamConfig, data: bytes, **about: Any) -> Manifest:
    """The manifest of a run that starts now. `data` is its input; `about` is further information
    for the reader."""
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
            **_engine(team),
            "input": sha256(data).hexdigest(),
        },
        about={
            "team": _plain(asdict(team)),
            "fingerprints": prints,
            "versions": _versions(),
            "commit": source_commit(Path(__file__).parents[1]),
            **about,
        },
        started=now(),
    )


def fingerprint(spec: ModelSpec) -> str | None:
    """A digest of a local model's files, or the commit of a hub model in the cache, else None.

    Files of up to 64 MiB are read whole; of a larger one the size, the beginning (with the
    safetensors header) and the end count. The order of a switcher's candidates does not count.
    """
    prints = [_folder(Path(name)) or _cached(name, revision) for name, revision in _places(spec)]
    if spec.gguf_file is not None:
        path = Path(spec.model) / spec.gguf_file
        prints[0] = (
            _file(path) if path.is_file() else _cached(spec.model, spec.revision, spec.gguf_file)
        )
    if not any(prints):
        return None
    return prints[0] if len(prints) == 1 else digest(prints)


def _switcher(team: TeamConfig, prints: Mapping[str, str | None]) -> dict[str, Any]:
    """The switcher's settings, and the order of its candidates if it is not the team's."""
    switcher, names = team.switcher, tuple(candidate.name for candidate in team.candidates)
    record = _plain(asdict(switcher))
    numbered = list(candidate_order.resolve(switcher) or names)
    elsewhere = {} if numbered == list(names) else {"candidates": numbered}
    left_out = {"endpoint", "candidates", "settings"} | (
        {"pair"} if switcher.pair is None else set()
    )
    return {
        **{k: v for k, v in record.items() if k not in left_out},
        "spec": switcher.spec and _content(switcher.spec, prints["switcher"]),
        "path": switcher.path and (_weights(switcher.path) or switcher.path),
        **elsewhere,
        **_own_part("switchers", switcher.kind, SwitcherKind, switcher.settings),
    }


def _engine(team: TeamConfig) -> dict[str, Any]:
    """A user's own engine; empty for the package's engines, which give equal records."""
    part = _own_part("engines", team.engine.kind, EngineKind, team.engine.settings)
    return {"engine": part} if part else {}


def _own_part(group: Group, kind: str, known: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The code of a user's own part, and its settings; empty for a kind of the package."""
    if kind in get_args(known):
        return {}
    return {"part": describe_part(group, kind), "settings": _plain(dict(settings))}


def _weights(source: str) -> str | None:
    """A digest of the files of a local head, judge or routing head, without other files of its
    folder."""
    pairs = [(f"{kind}.json", f"{kind}.safetensors") for kind in get_args(head.Kind)]
    for names in (*pairs, (routing_head.WEIGHTS,)):
        files = [Path(source) / name for name in names]
        if all(map(Path.is_file, files)):
            return digest([_file(file) for file in files])
    return None


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
    """The policy, and the content of the guard's judge. Unused rules are left out, so that outputs
    of versions without these rules can be continued."""
    policy = _plain(asdict(team.policy))
    policy["sampling"] = _plain(sampling_entry(team.policy.sampling))
    newer = ("guard", "max_share", "patch", "format", "sampling", "tool_call_parser")
    record = {k: v for k, v in policy.items() if v or k not in newer}
    if team.judge is not None:
        record["judge"] = _content(team.judge.spec, prints[team.judge.name])
    return record


def _content(spec: ModelSpec, content: str | None) -> Any:
    """A model's settings, with local paths replaced by their contents, so that a folder may move.
    Newer settings that are not used are left out, as in outputs of older versions."""
    record = _plain(asdict(spec))
    newer = ("tokenizer_revision", "gguf_file", "vllm")
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
    return digest(
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
    """The commit of a hub model in the cache, else None."""
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


def _plain(value: Any) -> Any:
    """JSON values only: tuples as lists, paths as strings."""
    return json.loads(json.dumps(value, default=str))
