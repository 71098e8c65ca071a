"""A YAML file as plain data, with the line of each key for error messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taketurns.config.yaml_source import construct, invalid, read_node
from taketurns.errors import ConfigError

Place = tuple[str | int, ...]
"""A value's keys and indices, from the top of the file."""


@dataclass
class YamlDocument:
    """A mapping read from a file. Top-level keys with the value null are left out."""

    path: Path
    data: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, what: str) -> YamlDocument:
        """Read a file, which errors call `what`. Raises ConfigError."""
        node = read_node(path, what)
        try:
            lines = dict(_lines(path, node)) if node is not None else {}
            data = construct(node)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise invalid(path, error) from error
        if not isinstance(data, dict):
            kind = "empty" if data is None else f"a {type(data).__name__}"
            raise ConfigError(f"{path}: a {what} must be a mapping of keys to values, not {kind}")
        return cls(path, {key: value for key, value in data.items() if value is not None}, lines)

    def override(self, key: str, value: object) -> None:
        """Set one value by its dotted path. A path names an entry of a list by its `name` or its
        index. Raises ConfigError for a path that does not exist."""
        *parents, last = key.split(".")
        here: Any = self.data
        place: Place = ()
        for part in parents:
            step: str | int = part
            if isinstance(here, list):
                names = [entry.get("name") if isinstance(entry, dict) else None for entry in here]
                step = names.index(part) if part in names else int(part) if part.isdigit() else -1
                if not 0 <= step < len(here):
                    known = ", ".join(str(name or index) for index, name in enumerate(names))
                    raise ConfigError(
                        f"{self.path}: cannot set {key!r}: there is no entry {part!r}; the entries "
                        f"are {known}"
                    )
                here = here[step]
            elif isinstance(here, dict):
                if here.get(part) is None:
                    here[part] = {}
                here = here[part]
            else:
                break
            place += (step,)
        if not isinstance(here, dict):
            raise ConfigError(
                f"{self.path}: cannot set {key!r}: {'.'.join(parents)} is not a mapping of keys; "
                f"set {'.'.join(parents)} itself"
            )
        here[last] = value
        self.lines.pop((*place, last), None)

    def where(self, place: Sequence[str | int]) -> str:
        """`file:line` of a key, or only the file if the key is not written in it."""
        line = self.lines.get(tuple(place))
        return f"{self.path}:{line}" if line is not None else str(self.path)


def _lines(path: Path, node: yaml.Node, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """The line of every key, from the parsed nodes. Raises ConfigError for a repeated key."""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(path, value, (*place, index))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: a key must be a word, not a list or a mapping")
            if key.value in seen:
                raise ConfigError(
                    f"{path}:{line}: the key {key.value!r} is written twice: remove one of the two"
                )
            seen.add(key.value)
            yield (*place, key.value), line
            yield from _lines(path, value, (*place, key.value))
