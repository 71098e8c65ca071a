"""The order in which a switcher numbers its candidates.

A head stores the candidates' names. A language model knows only numbers; `switcher.json` beside its
weights has the names of the candidates that it was trained for, in the order of the numbers from 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from taketurns.checkpoints import hub
from taketurns.config.team_config import SwitcherConfig
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec
from taketurns.utils.json_files import read_json

SCHEMA = "taketurns.lm-switcher/1"
FILE = "switcher.json"


def permutation(known: Sequence[str], names: Sequence[str], what: str, cure: str = "") -> list[int]:
    """The index of each of `names` in a switcher's own order, `known`. Raises ConfigError, which
    ends with `cure`, if the two sets of names differ."""
    if sorted(names) != sorted(known):
        raise ConfigError(
            f"the {what} was trained for {', '.join(known)}, not for {', '.join(names)}{cure}"
        )
    return [known.index(name) for name in names]


def resolve(config: SwitcherConfig) -> tuple[str, ...]:
    """The candidates in the order of a language model's numbers: from the team file, else from the
    model's folder; empty if neither has them. Raises ConfigError."""
    return config.candidates or (() if config.spec is None else load(config.spec))


def load(spec: ModelSpec) -> tuple[str, ...]:
    """The candidates in the order of the numbers, from the adapter's folder or hub repository, or
    the model's if there is no adapter; empty if there is no such file. Raises ConfigError for a
    file that cannot be read."""
    revision = spec.revision if spec.adapter is None else None
    path = _file(spec.adapter or spec.model, revision)
    if path is None:
        return ()
    try:
        record = read_json(path)
        if record.get("schema") != SCHEMA:
            raise ConfigError(
                f"{path} has the schema {record.get('schema')!r} and not {SCHEMA!r}: it is not the "
                "file of a switcher; name a folder that taketurns train wrote"
            )
        return tuple(map(str, record["candidates"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error!r}") from error


def save(names: Sequence[str], folder: Path) -> None:
    """Write the order of a switcher's candidates into its folder."""
    record = {"schema": SCHEMA, "candidates": list(names)}
    (folder / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _file(source: str, revision: str | None) -> Path | None:
    try:
        return hub.fetch("the switcher", source, FILE, revision)
    except ConfigError:
        return None  # loading the model reports the cause; a served model need not be here
