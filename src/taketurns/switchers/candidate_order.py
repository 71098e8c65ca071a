"""The names a switcher knows its candidates by.

A head is made of names; a language model knows numbers only, and `switcher.json` beside its weights
says which candidate each number stands for: those it was trained for, from number 0.
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
    """Where each of `names` stands among a switcher's own. Raises ConfigError, with a `cure` if
    there is one, for another pool."""
    if sorted(names) != sorted(known):
        raise ConfigError(
            f"the {what} was trained for {', '.join(known)}, not for {', '.join(names)}{cure}"
        )
    return [known.index(name) for name in names]


def resolve(config: SwitcherConfig) -> tuple[str, ...]:
    """The candidates that a language model numbers: as the team file says, else its folder; empty
    where neither does. Raises ConfigError."""
    return config.candidates or (() if config.spec is None else load(config.spec))


def load(spec: ModelSpec) -> tuple[str, ...]:
    """The candidates that are numbered, by the folder, or the hub's repository, of the adapter or
    else of the model; empty where that does not say. Raises ConfigError for a file that is none."""
    revision = spec.revision if spec.adapter is None else None
    path = _file(spec.adapter or spec.model, revision)
    if path is None:
        return ()
    try:
        record = read_json(path)
        if record.get("schema") != SCHEMA:
            raise ConfigError(f"{path} is no {SCHEMA} record")
        return tuple(map(str, record["candidates"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error!r}") from error


def save(names: Sequence[str], folder: Path) -> None:
    """Write into a switcher's folder which candidates it numbers."""
    record = {"schema": SCHEMA, "candidates": list(names)}
    (folder / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _file(source: str, revision: str | None) -> Path | None:
    try:
        return hub.fetch("the switcher", source, FILE, revision)
    except ConfigError:
        return None  # loading it says what is wrong; on a server it need not be found here
