"""The student: its start, its name, and the candidate that it replaces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec


@dataclass(frozen=True, slots=True)
class Student:
    """`start` is the model that the student starts from; `aligned` is the index of the candidate
    that it replaces and against which its gain is measured."""

    name: str
    start: ModelSpec
    aligned: int


def find_student(team: TeamConfig, student: str | None, aligned: str | None) -> Student:
    """The student by a candidate's name, a path or a hub id; the default is the aligned candidate,
    and its default is the last one.

    Raises ConfigError for an `aligned` that is not a candidate, and for a student that is neither a
    candidate nor a model of a candidate's architecture.
    """
    names = [candidate.name for candidate in team.candidates]
    if aligned is not None and aligned not in names:
        raise ConfigError(
            f"there is no candidate {aligned!r}; the candidates are {', '.join(names)}"
        )
    place = names.index(aligned) if aligned is not None else len(names) - 1
    wanted = student if student is not None else names[place]
    if wanted in names:
        return Student(wanted, team.candidates[names.index(wanted)].spec, place)
    here = Path(wanted).expanduser()
    base = replace(team.candidates[place].spec, adapter=None)
    spec = base.with_model(str(here.resolve()) if here.is_dir() else wanted)
    _require_kin(team, spec, wanted)
    return Student(here.name if here.is_dir() else wanted, spec, place)


def _require_kin(team: TeamConfig, spec: ModelSpec, wanted: str) -> None:
    architecture = _architecture(spec)
    theirs = {candidate.name: _architecture(candidate.spec) for candidate in team.candidates}
    if architecture not in theirs.values():
        listed = ", ".join(f"{name}: {_describe(what)}" for name, what in theirs.items())
        raise ConfigError(
            f"the student {wanted!r} is a {_describe(architecture)}, and no candidate is one "
            f"({listed}): start from a candidate, or from a model of a candidate's architecture"
        )


def _architecture(spec: ModelSpec) -> tuple[Any, ...]:
    """The model type, number of layers and hidden size."""
    from taketurns.checkpoints.model_config import read_config

    try:
        config = read_config(spec).get_text_config()
    except ConfigError as error:
        known = "is neither a candidate nor a model that can be loaded"
        raise ConfigError(f"the student {spec.model!r} {known}: {error}") from error
    return (config.model_type, config.num_hidden_layers, config.hidden_size)


def _describe(architecture: tuple[Any, ...]) -> str:
    kind, layers, width = architecture
    return f"{kind} with {layers} layers and hidden size {width}"
