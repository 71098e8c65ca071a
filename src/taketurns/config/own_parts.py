"""Sections of a team file whose kind is a user's own part: "package.module:Name"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from taketurns.config.team_config import EngineKind, SwitcherKind
from taketurns.config.yaml_document import YamlDocument
from taketurns.utils.parts import Group, names_part

_SECTIONS: Mapping[str, tuple[Group, tuple[str, ...]]] = MappingProxyType(
    {
        "switcher": ("switchers", get_args(SwitcherKind)),
        "engine": ("engines", get_args(EngineKind)),
    }
)


@dataclass(frozen=True, slots=True)
class OwnPart:
    """A section's kind, and its other keys as the part's settings."""

    kind: str
    settings: Mapping[str, Any]


def take_own_parts(document: YamlDocument) -> dict[str, OwnPart]:
    """Remove the sections that name a user's own part from a document, and return them by section
    name. The schema does not know their keys, so it must see only the other sections."""
    parts = {}
    for section, (group, known) in _SECTIONS.items():
        entry = document.data.get(section)
        if not isinstance(entry, dict) or not isinstance(kind := entry.get("kind"), str):
            continue
        if kind not in known and names_part(group, kind):
            settings = {key: value for key, value in entry.items() if key != "kind"}
            parts[section] = OwnPart(kind, settings)
            del document.data[section]
    return parts
