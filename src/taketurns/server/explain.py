"""What is wrong with a request, in one sentence that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taketurns.server.errors import ApiError, refused


def explain(errors: Sequence[Any], body: Any) -> ApiError:
    """The worst of pydantic's `errors` about `body`: the one deepest inside it. Where a field may
    be one of several things, each way of being wrong is an error; those of one place are joined."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return refused(f"the body is not valid JSON: {first['ctx']['error']}")
    if not isinstance(body, dict):
        return refused("the body must be a JSON object, sent as application/json")
    places = [_place(error, body) for error in errors]
    worst = max(places, key=len)
    here = [error for error, place in zip(errors, places, strict=True) if place == worst]
    param = ".".join(map(str, worst))
    first = here[0]
    if first["type"] == "unknown_field":
        return refused(str(first["msg"]), param, "unknown_parameter")
    if first["type"] == "missing":
        return refused(f"{param} is required", param)
    if _allows_nothing(first):
        return refused(f"{param} is not supported here: leave it out, or empty", param)
    ways = dict.fromkeys(str(error["msg"]).removeprefix("Input ") for error in here)
    return refused(f"{param}: {' or '.join(ways)}", param)


def _place(error: Any, body: Any) -> list[str | int]:
    """Where in the body an error is; pydantic's own names for the members of a union are left
    out."""
    place: list[str | int] = []
    parts = [part for part in error["loc"] if part != "body"]
    here = body
    for part in parts:
        inside = isinstance(here, dict) and part in here
        if inside or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
        elif error["type"] != "missing" or part != parts[-1]:
            continue
        place.append(part)
    if error["type"] == "unknown_field":
        place.append(error["ctx"]["name"])
    return place


def _allows_nothing(error: Any) -> bool:
    """The field is only there so that clients may send it without asking for anything."""
    limits = error.get("ctx", {})
    return bool(limits.get("max_length") == 0 or limits.get("le") == 0)
