"""The fields that ask for an answer in a format: OpenAI's, vLLM's, and vLLM's older ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from taketurns.config.answer_format import JSON_OBJECT, KINDS, read_format
from taketurns.errors import ConfigError
from taketurns.server.errors import bad_request
from taketurns.types import AnswerFormat

Schema = dict[str, Any] | str | bool
Choices = Annotated[list[str], Field(max_length=8192, fail_fast=True)]


class _Open(BaseModel):
    """Takes fields that it does not know, as servers do whose clients are many."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, protected_namespaces=())


class JsonSchema(_Open):
    """OpenAI's: `schema` is what counts; every answer is held to it, `strict` or not."""

    name: str | None = None
    schema_: dict[str, Any] | bool | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Open):
    """OpenAI's `response_format`. llama.cpp's clients give `json_object` a `schema`, and
    huggingface_hub's, which speaks as its own server did, a `value`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(
        None, validation_alias=AliasChoices("schema", "value"), serialization_alias="schema"
    )


class StructuredOutputs(_Open):
    """vLLM's: one of the kinds; how its backends work is not for us to follow."""

    json_: Schema | None = Field(None, alias="json")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: Annotated[str, Field(max_length=0)] | None = None


class FormatFields(BaseModel):
    """What a request may have of these."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: Annotated[str, Field(max_length=0)] | None = None


def requested_format(request: FormatFields) -> tuple[AnswerFormat | None, str | None]:
    """The format that a request asks for, and the field that does. Raises ApiError for one that is
    wrong, and for two."""
    asked = [(field, entry) for field, entry in _entries(request) if entry is not None]
    if not asked:
        return None, None
    field, entry = asked[0]
    if len(asked) > 1:
        raise bad_request(
            f"an answer has one format, and {field} and {asked[1][0]} ask for one each: leave out "
            "one of the two",
            asked[1][0],
        )
    try:
        return read_format(entry), field
    except ConfigError as error:
        raise bad_request(f"{field}: {error}", field) from error


def _entries(request: FormatFields) -> Iterator[tuple[str, Any]]:
    """What each field asks for, as `read_format` reads it."""
    response = request.response_format
    if response is not None and response.type == "json_object":
        plain = response.schema_ is None
        yield "response_format", JSON_OBJECT if plain else {"json": response.schema_}
    elif response is not None and response.type == "json_schema":
        schema = response.json_schema
        if schema is None or schema.schema_ is None:
            raise bad_request(
                "response_format.json_schema.schema is required where the type is json_schema",
                "response_format",
            )
        yield "response_format", {"json": schema.schema_}
    for kind in KINDS:
        if request.structured_outputs is not None:
            name = "json_" if kind == "json" else kind
            value = getattr(request.structured_outputs, name)
            yield f"structured_outputs.{kind}", None if value is None else {kind: value}
        value = getattr(request, f"guided_{kind}")
        yield f"guided_{kind}", None if value is None else {kind: value}
    if request.structured_outputs is not None and request.structured_outputs.json_object:
        yield "structured_outputs.json_object", JSON_OBJECT
    if request.guided_json_object:
        yield "guided_json_object", JSON_OBJECT
