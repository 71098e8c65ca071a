"""Reading a team file: YAML, loaded safely and strictly.

A duplicate key, an unknown key or a value of the wrong type is refused in one sentence that names
the file, the line and the cure. docs/team-file.md lists the keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from taketurns.config.bundled import NAMES, bundled_team, place_base
from taketurns.config.explain import explain, suggest
from taketurns.config.own_parts import take_own_parts
from taketurns.config.policy import Policy
from taketurns.config.resolve import TeamResolver
from taketurns.config.schema import PolicySchema, TeamSchema, schema_of
from taketurns.config.team_config import TeamConfig
from taketurns.config.yaml_document import YamlDocument
from taketurns.errors import ConfigError

Settings = TypeVar("Settings")


def load_team_config(
    source: str | Path, overrides: Mapping[str, object] | None = None
) -> TeamConfig:
    """Read a team file, or a folder with a `team.yaml`; "pocket" and "smol" are bundled teams.

    `overrides` change single settings by dotted path, `{"policy.patch_size": 32}`; a key of the
    policy needs no prefix. Raises ConfigError.
    """
    document = YamlDocument.read(find_team_file(source), "team file")
    place_base(document)
    for key, value in (overrides or {}).items():
        document.override(f"policy.{key}" if key in PolicySchema.model_fields else key, value)
    parts = take_own_parts(document)
    team = _validated(document, TeamSchema, "team file")
    return TeamResolver(document, team, parts).resolve()


def find_team_file(source: str | Path) -> Path:
    """The team file: `source`, or the `team.yaml` in it. Raises ConfigError."""
    if (team := bundled_team(source)) is not None:
        return team.team_file
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "team.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no team file {path}: name one, or {NAMES}")
    return path


def load_settings(path: Path, record: type[Settings], what: str) -> Settings:
    """Read a YAML file into the dataclass `record`, whose fields are the file's keys, as strictly
    as a team file. Errors call the file `what`. Raises ConfigError."""
    document = YamlDocument.read(path, what)
    settings = _validated(document, schema_of(record, record.__name__), what, flat=True)
    try:
        return record(**dict(settings))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def change_policy(policy: Policy, changes: Mapping[str, object]) -> Policy:
    """A policy with other values for some of its fields. Raises ConfigError."""
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
    schema = schema_of(Policy, "Policy")
    try:
        checked = schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            hint = suggest(key, list(schema.model_fields))
            raise ConfigError(f"unknown key {key!r} in policy; {hint}") from error
        message = first["msg"].removeprefix("Input ")
        raise ConfigError(f"policy.{key} {message}, not {changes[key]!r}") from error
    return dataclasses.replace(policy, **{key: getattr(checked, key) for key in values})


def _validated(
    document: YamlDocument, schema: type[BaseModel], what: str, *, flat: bool = False
) -> BaseModel:
    """A file's values, checked. They are passed as JSON, because strict checking of JSON accepts a
    list where a tuple is declared."""
    try:
        raw = json.dumps(document.data, default=str if flat else None)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{document.path}: a {what} cannot hold this value: {error}") from error
    try:
        return schema.model_validate_json(raw)
    except ValidationError as error:
        keys = list(schema.model_fields) if flat else None
        raise ConfigError(explain(document, error, keys)) from error
