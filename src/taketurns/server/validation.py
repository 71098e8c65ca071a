"""The message for a request that does not fit its schema: one sentence that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taketurns.config.settings import shortened
from taketurns.server.errors import ApiError, bad_request

_NOT_SUPPORTED = ("not_supported", "elsewhere")


def validation_error(errors: Sequence[Any], body: Any) -> ApiError:
    """The error for `body`: of pydantic's `errors` that which lies deepest inside it. Where a field
    may be one of several types, each is an error of its own; those of one field are joined."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return bad_request(f"the body is not valid JSON: {first['ctx']['error']}")
    if not isinstance(body, dict):
        return bad_request("the body must be a JSON object, sent as application/json")
    paths = [_path(error, body) for error in errors]
    deepest = max(paths, key=len)
    same_field = [error for error, path in zip(errors, paths, strict=True) if path == deepest]
    param = ".".join(map(str, deepest))
    first = same_field[0]
    if first["type"] == "unknown_field":
        return bad_request(str(first["msg"]), param, "unknown_parameter")
    if first["type"] == "missing":
        return bad_request(f"{param} is required", param)
    value = _value(_inside(first, deepest))
    only_empty = first.get("ctx", {}).get("max_length") == 0
    if first["type"] in _NOT_SUPPORTED or only_empty:
        said = f" ({value})" if value else ""
        return bad_request(f"{param}{said} is not supported here: leave it out", param)
    messages = [str(error["msg"]).removeprefix("Input ") for error in same_field]
    found = f", not {value}" if value else ""
    return bad_request(f"{param}: {' or '.join(dict.fromkeys(messages))}{found}", param)


def _path(error: Any, body: Any) -> list[str | int]:
    """The keys and indices that lead to an error in the body, without pydantic's own names for the
    members of a union."""
    path: list[str | int] = []
    parts = [part for part in error["loc"] if part != "body"]
    value = body
    for part in parts:
        inside = isinstance(value, dict) and part in value
        if inside or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value = value[part]
        elif error["type"] != "missing" or part != parts[-1]:
            continue
        path.append(part)
    if error["type"] in ("unknown_field", "elsewhere"):
        path.append(error["ctx"]["name"])
    return path


def _inside(error: Any, path: Sequence[str | int]) -> Any:
    """What stands at an error's path, which ends inside its input where a field is not known."""
    value = error["input"]
    inside = error["type"] == "elsewhere" and isinstance(value, dict)
    return value.get(path[-1]) if inside else value


def _value(value: Any) -> str:
    """A value as a sentence can hold it; nothing of one that has parts."""
    return shortened(value) if isinstance(value, str | int | float) else ""
