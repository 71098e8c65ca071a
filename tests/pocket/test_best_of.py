"""Best of n counts a question as solved when any answer is right, and pairs system with system."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from taketurns import Candidate, EngineError, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.pocket.best_of import best_of
from taketurns.switchers.simple import RandomSwitcher
from taketurns.tasks.base import Split
from taketurns.types import Score


@dataclass(frozen=True)
class Alternation:
    """Right when both models had a word in it."""

    name: str = "alternation"
    category: str = "test"

    def queries(self, split: Split) -> tuple[Query, ...]:
        return tuple(Query(f"{split}{i}", text=f"Q{i}") for i in range(9))

    def score(self, query: Query, answer: str) -> Score:
        return Score(float("a" in answer and "b" in answer))


def team(**options: object) -> Team:
    engine = ScriptedEngine(
        {letter: lambda p, s, x=letter: x * s.max_tokens for letter in "ab"},
        **options,  # type: ignore[arg-type]
    )
    candidates = [Candidate(letter, ModelSpec(letter)) for letter in "ab"]
    return Team(candidates, engine, RandomSwitcher(), Policy(patch_size=1, max_tokens=3))


async def test_switching_solves_what_no_single_model_can() -> None:
    result = await best_of(team(), {"t": Alternation()}, questions=8, samples=6)
    assert result.share("random") == 1
    assert result.share("a") == result.share("b") == 0
    best, test = result.gate()
    assert best == "a"
    assert (test.questions, test.only_first, test.only_second) == (8, 8, 0)
    assert test.p == pytest.approx(2 / 2**8)
    assert result.to_json()["solved"]["random"] == {"alternation": 1.0, "all": 1.0}


async def test_a_failing_engine_is_not_a_wrong_answer() -> None:
    failing = team(failures={3: EngineError("gone")})
    with pytest.raises(EngineError, match="gone"):
        await best_of(failing, {"t": Alternation()}, questions=2, samples=2)
