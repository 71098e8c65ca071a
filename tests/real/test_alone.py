"""A real model alone, through the local engine, is what `transformers.generate` makes of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from taketurns import Policy, Team

from .questions import QUESTIONS
from .reference import Plain, follow, report

BUDGET = 48


@pytest.mark.parametrize("name", ["gemma", "smollm2", "qwen"])
def test_alone_it_writes_what_transformers_writes(
    team: Team, plain: Mapping[str, Plain], name: str
) -> None:
    alone = team.ruled_by(Policy(max_tokens=BUDGET, temperature=0)).alone(name)
    traces = alone.generate(list(QUESTIONS))
    ties = [
        tie
        for trace in traces
        for tie in follow(trace, [plain[name]], BUDGET, BUDGET, one_tokenizer=True)
    ]
    report(ties, f"{name} alone, {len(traces)} answers")
