"""The keys of a team file, made from the fields of the records, so that the two always agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from taketurns.config.pair_rules import Content, Uncertainty
from taketurns.config.policy import QUESTION, PatchRule, Policy
from taketurns.config.team_config import EngineConfig, EngineKind, SwitcherKind
from taketurns.types import ModelSpec, SamplingOptions


def schema_of(record: type, title: str, /, **changes: Any) -> type[BaseModel]:
    """A strict schema with the fields of a dataclass; `changes` replace fields, None removes
    one."""
    hints = get_type_hints(record)
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        default = ... if item.default is dataclasses.MISSING else item.default
        fields[item.name] = (hints[item.name], default)
    fields.update(changes)
    kept = {key: value for key, value in fields.items() if value is not None}
    strict = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
    model: type[BaseModel] = create_model(title, __config__=strict, **kept)
    return model


ENDPOINT: dict[str, Any] = {
    "urls": (tuple[str, ...], ()),
    "served_as": (str | None, None),
    "api_key_env": (str | None, None),
}

CandidateSchema = schema_of(ModelSpec, "Candidate", name=(str, ...), **ENDPOINT)
SwitcherSchema = schema_of(
    ModelSpec,
    "Switcher",
    kind=(SwitcherKind, "random"),
    model=(str | None, None),
    chat_template=(bool, False),
    sequence=(tuple[str | int, ...], ()),
    path=(str | None, None),
    tokens=(dict[str, int], {}),
    reader=(str | int | None, None),
    candidates=(tuple[str, ...], ()),
    base=(str | int | None, None),
    gamma=(float | None, None),
    uncertainty=(Uncertainty | None, None),
    content=(tuple[Content, ...] | None, None),
    rate=(float | None, None),
    lookahead=(int | None, None),
    threshold=(float | None, None),
    template=(str | None, None),
    prompt=(str | None, None),
    **ENDPOINT,
)
PatchSchema = schema_of(PatchRule, "Patch")
SamplingSchema = schema_of(SamplingOptions, "Sampling", logit_bias=(dict[int, float], {}))
PolicySchema = schema_of(
    Policy,
    "Policy",
    opening=(str | int | None, None),
    closing=(str | int | None, None),
    max_share=(dict[str, float], {}),
    guard=None,
    patch=(PatchSchema | None, None),
    format=(dict[str, Any] | str | None, None),
    sampling=(SamplingSchema | None, None),
)
GuardSchema = schema_of(
    ModelSpec,
    "Guard",
    to=(str | int, ...),
    words=(tuple[str, ...], ()),
    patterns=(tuple[str, ...], ()),
    judge=(str | int | None, None),
    question=(str, QUESTION),
    threshold=(float, 0.5),
    model=(str | None, None),
    **ENDPOINT,
)
EngineSchema = schema_of(
    EngineConfig,
    "Engine",
    kind=(EngineKind, "local"),
    settings=None,
    deterministic=(bool | Literal["auto"], "auto"),
    memory=(str | int | None, None),
    memory_bytes=None,
    open_requests=(bool | Literal["auto"], "auto"),
    vllm=(dict[str, Any], {}),
    urls=ENDPOINT["urls"],
    api_key_env=ENDPOINT["api_key_env"],
)
TeamSchema = create_model(
    "Team",
    __config__=ConfigDict(extra="forbid", frozen=True, strict=True),
    candidates=(tuple[CandidateSchema, ...], ...),  # type: ignore[valid-type]
    switcher=(SwitcherSchema, SwitcherSchema()),
    policy=(PolicySchema, PolicySchema()),
    guard=(GuardSchema | None, None),  # type: ignore[arg-type]
    engine=(EngineSchema, EngineSchema()),
)

_SECTIONS = {
    "candidates": CandidateSchema,
    "switcher": SwitcherSchema,
    "policy": PolicySchema,
    "guard": GuardSchema,
    "engine": EngineSchema,
}


def keys_in(place: Sequence[str | int]) -> list[str]:
    """The keys that a team file may have at a place: a section's name, or () for the top."""
    schema = _SECTIONS[str(place[0])] if place else TeamSchema
    if len(place) == 2 and place[0] == "policy":
        schema = {"patch": PatchSchema, "sampling": SamplingSchema}.get(str(place[1]), schema)
    return list(schema.model_fields)
