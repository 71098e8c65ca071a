"""What the schemas of all requests have in common: strict records, and texts that are checked."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_LIST = 8192  # in a list
MAX_NAME = 64  # characters of an unknown field that are compared with the known ones


def whole_characters(text: str) -> str:
    """JSON can spell half of a surrogate pair; no tokenizer can read one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "text", "Input should be text without unpaired surrogates"
        ) from None
    return text


Text = Annotated[str, AfterValidator(whole_characters)]


def check_values(value: Any, values: int, depth: int) -> None:
    """Raise PydanticCustomError for a JSON value with more values or levels than these, or with a
    text that no tokenizer can read."""
    level: list[Any] = [value]
    seen = levels = 0
    while level:
        for text in level:
            if isinstance(text, str):
                whole_characters(text)
        level = [part for whole in level for part in _parts(whole)]
        seen, levels = seen + len(level), levels + 1
        if seen > values or levels > depth:
            raise PydanticCustomError(
                "values",
                "Input should have at most {values} values in at most {depth} levels",
                {"values": values, "depth": depth},
            )


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


class Strict(BaseModel):
    """Refuses unknown fields and values of another type. `unsupported` are fields that the API has
    and no team can serve."""

    unsupported: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unset = []
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for key in data:
            if key in known:
                continue
            if key in cls.unsupported or (key in _elsewhere() and issubclass(cls, Request)):
                if data[key] is None:
                    unset.append(key)
                    continue
                raise PydanticCustomError("elsewhere", "not supported", {"name": str(key)})
            start = str(key)[:MAX_NAME]
            name = start.encode(errors="backslashreplace").decode()  # as in Text
            near = get_close_matches(name, known, n=1, cutoff=0.7)
            cure = f"; did you mean {near[0]!r}?" if near else ""
            raise PydanticCustomError(
                "unknown_field",
                "unknown field {field}{cure}",
                {"field": repr(start), "name": name, "cure": cure},
            )
        return {key: value for key, value in data.items() if key not in unset} if unset else data


class Request(Strict):
    """The body of a request. A field that another address has is refused as not supported."""


@cache
def _elsewhere() -> frozenset[str]:
    """The fields of all requests: one that another address has is no slip of the pen."""
    return frozenset(name for kind in _kinds(Request) for name in kind.model_fields)


def _kinds(kind: type[Request]) -> Iterator[type[Request]]:
    yield kind
    for special in kind.__subclasses__():
        yield from _kinds(special)
