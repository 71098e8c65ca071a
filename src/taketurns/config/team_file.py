"""Writing a team file: a team with a newly trained switcher."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import yaml

from taketurns.config.answer_format import format_to_json
from taketurns.config.policy import Guard
from taketurns.config.sampling import sampling_entry
from taketurns.config.team_config import TeamConfig
from taketurns.types import Endpoint, ModelSpec

NOT_NEAR = "../../../.."
_PATHS = ("model", "adapter", "tokenizer")


def team_yaml(
    team: TeamConfig, switcher: dict[str, Any], folder: Path, command: str = "train"
) -> str:
    """The text of `folder/team.yaml`, which `command` writes. Paths near the folder are relative to
    it, so that the files can be moved together; other paths are absolute."""
    names = [candidate.name for candidate in team.candidates]
    policy = _changed(team.policy)
    for key in ("opening", "closing"):
        if key in policy:
            policy[key] = names[policy[key]]
    guard = _guard_entry(team, policy.pop("guard", None), folder)
    if team.policy.patch is not None:
        policy["patch"] = dataclasses.asdict(team.policy.patch)
    if team.policy.format is not None:
        policy["format"] = format_to_json(team.policy.format)
    if "sampling" in policy:
        policy["sampling"] = sampling_entry(team.policy.sampling)
    if "max_share" in policy:
        policy["max_share"] = {names[index]: share for index, share in policy["max_share"]}
    engine = _changed(team.engine) | dict(team.engine.settings)
    if "memory_bytes" in engine:
        engine["memory"] = engine.pop("memory_bytes")
    if team.engine.vllm:
        engine["vllm"] = dict(team.engine.vllm)
    document = {
        "candidates": [
            {
                "name": candidate.name,
                **spec_entry(candidate.spec, folder),
                **_endpoint_entry(candidate.endpoint),
            }
            for candidate in team.candidates
        ],
        "switcher": switcher,
        "policy": policy,
        "guard": guard,
        "engine": engine,
    }
    text = yaml.safe_dump(
        {key: value for key, value in document.items() if value},
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return f"# Written by taketurns {command}.\n{text}"


def _guard_entry(team: TeamConfig, guard: Guard | None, folder: Path) -> dict[str, Any]:
    if guard is None:
        return {}
    names = [candidate.name for candidate in team.candidates]
    entry = {**_changed(guard), "to": names[guard.to]}
    if team.judge is not None:
        del entry["judge"]
        same = [c.name for c in team.candidates if c.spec == team.judge.spec]
        entry |= {"judge": same[0]} if same else spec_entry(team.judge.spec, folder)
    return entry


def spec_entry(spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """A model's keys in a team file in `folder`; defaults are left out."""
    entry = {"model": spec.model, **_changed(spec)}
    for key in _PATHS:
        if key in entry:
            entry[key] = _place(entry[key], folder.resolve())
    return entry


def _endpoint_entry(endpoint: Endpoint | None) -> dict[str, Any]:
    return {} if endpoint is None else {"urls": list(endpoint.urls), **_changed(endpoint)}


def _place(name: str, folder: Path) -> str:
    path = Path(name)
    if not path.is_absolute() or not path.exists():
        return name  # a hub id
    relative = os.path.relpath(path, folder)  # "." for the folder itself
    return name if relative.startswith(NOT_NEAR) else relative


def _changed(record: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain YAML values."""
    changed: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if item.default is not dataclasses.MISSING and value != item.default:
            changed[item.name] = list(value) if isinstance(value, tuple) else value
    return changed
