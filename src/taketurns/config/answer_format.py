"""An answer's format as people write it: one key that says its kind, as in vLLM's
`structured_outputs`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from taketurns.errors import ConfigError
from taketurns.types import AnswerFormat

JSON_OBJECT = "json_object"
KINDS = ("json", "regex", "choice", "grammar")
_KNOWN = f"{', '.join(KINDS)} or {JSON_OBJECT}"


def read_format(entry: object) -> AnswerFormat | None:
    """A format written as `{"json": SCHEMA}`, `{"regex": …}`, `{"choice": […]}`, `{"grammar": …}`
    or `"json_object"`; None for none. A schema may be an object or its JSON. Raises ConfigError."""
    if entry is None:
        return None
    if entry == JSON_OBJECT or entry == {JSON_OBJECT: True}:
        return AnswerFormat("json", '{"type":"object"}')
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(f"a format must have one key, {_KNOWN}, not {_shown(entry)}")
    ((kind, value),) = entry.items()
    if kind == "json":
        return AnswerFormat("json", _schema(value))
    if kind == "choice":
        return AnswerFormat("choice", _choices(value))
    if kind in ("regex", "grammar"):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{kind} must be some text, not {_shown(value)}")
        return AnswerFormat(kind, value)
    raise ConfigError(f"a format's key is {_KNOWN}, not {_shown(kind)}")


def format_to_json(answer_format: AnswerFormat) -> dict[str, Any]:
    """A format as `read_format` reads it."""
    plain = answer_format.kind in ("json", "choice")
    value: Any = json.loads(answer_format.value) if plain else answer_format.value
    return {answer_format.kind: value}


def _schema(value: object) -> str:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"json is not a schema in JSON: {error}") from error
    if value is True:
        value = {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"json must be a schema, an object, not {_shown(value)}")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"json is not a schema that JSON can hold: {error}") from error


def _choices(value: object) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ConfigError(f"choice must be a list of at least one text, not {_shown(value)}")
    if wrong := [choice for choice in value if not isinstance(choice, str) or not choice]:
        raise ConfigError(
            f"choice must be a list of texts, none empty; {_shown(wrong[0])} is not one"
        )
    return json.dumps(list(value))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
