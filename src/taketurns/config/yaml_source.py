"""YAML files as plain data, within limits.

A few lines of YAML can stand for more values than any memory holds, because an alias of a list may
be an entry of another list that has aliases too. So the values are counted on the nodes of the
file, each of which is visited once, before any value is constructed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taketurns.errors import ConfigError

MOST_BYTES = 1 << 20  # of a file; a reader in Python takes some seconds for these
MOST_VALUES = 100_000  # with every alias filled in
MOST_DEPTH = 64  # of lists and mappings in each other


class TooLargeError(yaml.YAMLError):
    """The file stands for more values than are read."""


def read_node(path: Path, what: str) -> yaml.Node | None:
    """The root node of a YAML file, None for an empty one; `what` is the kind of file, for errors.
    Raises ConfigError, with the line where there is one."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise TooLargeError(_too_long())
        return compose(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: a {what} is UTF-8 text, this is not") from error
    except TooLargeError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(path, error) from error


def compose(text: str) -> yaml.Node | None:
    """The root node of a YAML document. Raises yaml.YAMLError, TooLargeError among them, and
    RecursionError."""
    if len(text) > MOST_BYTES:
        raise TooLargeError(_too_long())
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _measure(node, {})
    return node


def construct(node: yaml.Node | None) -> Any:
    """The plain data that nodes stand for. Raises yaml.YAMLError and ValueError."""
    return None if node is None else yaml.SafeLoader("").construct_document(node)


def invalid(path: Path, error: Exception) -> ConfigError:
    """A YAML reader's error as one sentence."""
    if isinstance(error, RecursionError):
        return ConfigError(f"{path}: not valid YAML: nested too deeply")
    if isinstance(error, yaml.MarkedYAMLError):
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        return ConfigError(f"{path}{line}: not valid YAML: {error.problem}")
    return ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}")


def _too_long() -> str:
    return f"this is longer than {MOST_BYTES:,} bytes, the most that is read"


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node stands for and how deeply they are nested. `known` has the sizes of
    visited nodes, None for a node that is being visited."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            line = node.start_mark.line + 1
            raise TooLargeError(f"line {line}: an alias must not stand inside its own anchor")
        return size
    known[id(node)] = None
    values, depth = 1, 0
    if isinstance(node, yaml.CollectionNode):
        inside = [
            part for item in node.value for part in (item if isinstance(item, tuple) else (item,))
        ]
        for part in inside:
            more, deeper = _measure(part, known)
            values, depth = values + more, max(depth, deeper + 1)
    if values > MOST_VALUES:
        raise TooLargeError(
            f"this stands for more than {MOST_VALUES:,} values, its aliases filled in: write less"
        )
    if depth > MOST_DEPTH:
        raise TooLargeError(f"this is nested more than {MOST_DEPTH} deep: write it flatter")
    known[id(node)] = values, depth
    return values, depth
