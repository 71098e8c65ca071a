"""Answers that a team could have written, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.types import Patch, Query, Trace

Made = Callable[..., TeamAnswer]


@pytest.fixture
def pocket() -> TeamConfig:
    return load_team_config("pocket")


@pytest.fixture(scope="session")
def codec() -> Any:
    from taketurns.checkpoints.text import TextCodec

    return TextCodec.load(load_team_config("pocket").candidates[2].spec)


@pytest.fixture
def answer(codec: Any) -> Made:
    """An answer of these `(speaker, text)` patches, by default one right one of the aligned
    checkpoint; a speaker of None is forced text."""

    def make(
        number: int = 0,
        *patches: tuple[int | None, str],
        utility: float | None = 1.0,
        task: str = "recall",
        exact: bool = True,
        finish: Any = "stop",
        why: str | None = None,
    ) -> TeamAnswer:
        said = patches or ((2, " the answer is 7."),)
        query = Query(f"q{number // 10}", text=f"what is {number // 10 % 97}?")
        written = tuple(
            Patch(
                speaker,
                tuple(codec.encode(text)),
                text,
                finish if place == len(said) else "length",
                "forced" if speaker is None else "chosen",
            )
            for place, (speaker, text) in enumerate(said, start=1)
        )
        trace = Trace(query, written, number % 10, exact)
        return TeamAnswer(f"{query.id}#{number % 10}", task, trace, utility, why)

    return make
