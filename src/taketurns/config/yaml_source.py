"""YAML files as plain data, within limits.

Nested aliases let a few lines of YAML expand to more values than any memory holds. So the values
are counted before any of them is constructed, on the nodes of the file, each visited once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taketurns.errors import ConfigError

MOST_BYTES = 1 << 20  # of a file; the Python parser needs some seconds for these
MOST_VALUES = 100_000  # with every alias expanded
MOST_DEPTH = 64  # of nested lists and mappings


class TooLargeError(yaml.YAMLError):
    """The file is longer, or expands to more values, than the limits allow."""


def read_node(path: Path, what: str) -> yaml.Node | None:
    """The root node of a YAML file, None for an empty one. Errors call the file `what`. Raises
    ConfigError, with the line if it is known."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise TooLargeError(_too_long())
        return compose(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this {what} is not UTF-8 text; save it as UTF-8") from error
    except TooLargeError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(path, error) from error


def compose(text: str) -> yaml.Node | None:
    """The root node of a YAML document. Raises yaml.YAMLError, which includes TooLargeError, and
    RecursionError."""
    if len(text) > MOST_BYTES:
        raise TooLargeError(_too_long())
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _measure(node, {})
    return node


def construct(node: yaml.Node | None) -> Any:
    """The plain data of a tree of nodes. Raises yaml.YAMLError and ValueError."""
    return None if node is None else yaml.SafeLoader("").construct_document(node)


def invalid(path: Path, error: Exception) -> ConfigError:
    """A YAML parser's error as one sentence."""
    if isinstance(error, RecursionError):
        return ConfigError(f"{path}: not valid YAML: nested too deeply; nest it less")
    if isinstance(error, yaml.MarkedYAMLError):
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        return ConfigError(f"{path}{line}: not valid YAML: {error.problem}")
    return ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}")


def _too_long() -> str:
    return f"this is longer than the limit of {MOST_BYTES:,} bytes: write less"


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """The number of values that a node expands to, and their depth of nesting. `known` has the
    sizes of visited nodes, None for a node that is being visited."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            line = node.start_mark.line + 1
            raise TooLargeError(f"line {line}: an alias must not be inside its own anchor")
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
            f"this has more than {MOST_VALUES:,} values with its aliases expanded: write fewer"
        )
    if depth > MOST_DEPTH:
        raise TooLargeError(f"this is nested more than {MOST_DEPTH} levels deep: nest it less")
    known[id(node)] = values, depth
    return values, depth
