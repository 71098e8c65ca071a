"""Speakers are drawn from the switcher's distribution, by top-p, and from nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.draft import Draft, Reader
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError, PromptError
from taketurns.policy import Policy
from taketurns.seeds import generator
from taketurns.switchers import LMSwitcher, normalise, pick
from taketurns.types import Candidate, ModelSpec, Query

QUERY = Query("q", text="Why?")


def shares(probabilities: list[float], top_p: float) -> list[float]:
    count = 20_000
    drawn = Counter(pick(probabilities, top_p, u) for u in generator(1).random(count))
    return [drawn[i] / count for i in range(len(probabilities))]


def test_top_p_over_speakers() -> None:
    assert shares([0.6, 0.3, 0.1], 0.7) == pytest.approx([2 / 3, 1 / 3, 0], abs=0.015)
    assert shares([0.8, 0.1, 0.1], 0.7) == [1, 0, 0]
    assert shares([0.5, 0.3, 0.2], 1.0) == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


@pytest.mark.parametrize("candidates", [2, 3, 4, 7])
def test_a_uniform_distribution_stays_uniform(candidates: int) -> None:
    expected = [1 / candidates] * candidates
    assert shares(expected, 0.7) == pytest.approx(expected, abs=0.015)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda w: sum(w) > 0.01),
    st.floats(0.01, 1),
    st.floats(0, 0.999999),
)
def test_only_the_nucleus_is_ever_drawn(weights: list[float], top_p: float, uniform: float) -> None:
    probabilities = normalise(weights)
    chosen = probabilities[pick(probabilities, top_p, uniform)]
    assert chosen > 0
    assert sum(p for p in probabilities if p > chosen) < top_p


async def test_probabilities_are_logits_renormalised_and_nothing_is_sampled() -> None:
    """Fault: the switcher's answer is sampled text searched for a digit."""
    engine = ScriptedEngine({"a": [], "b": []}, scores={"switcher": [0.02, 0.06]})
    switcher = LMSwitcher("switcher")
    await switcher.prepare(engine, [await engine.info("a"), await engine.info("b")])
    decide = switcher.begin(QUERY, Policy(max_tokens=50))
    async with engine.session(1) as session:
        draft = Draft(
            QUERY, [Reader(Candidate(n, ModelSpec(n)), await engine.info(n)) for n in "ab"], ()
        )
        assert await decide(session, draft) == pytest.approx((0.25, 0.75))
    assert [call.kind for call in engine.calls] == ["score"]


async def test_a_pool_the_switcher_cannot_number_is_refused() -> None:
    engine = ScriptedEngine({f"m{i}": [] for i in range(11)}, scores={"switcher": [0.1] * 11})
    infos = [await engine.info(f"m{i}") for i in range(11)]
    with pytest.raises(ConfigError, match="cannot choose among 11 candidates"):
        await LMSwitcher("switcher").prepare(engine, infos)


async def test_an_answer_too_long_for_the_switcher_is_refused_before_it_starts() -> None:
    engine = ScriptedEngine({"a": [], "b": []}, scores={"switcher": [0.5, 0.5]}, context=300)
    switcher = LMSwitcher("switcher")
    await switcher.prepare(engine, [await engine.info("a"), await engine.info("b")])
    switcher.begin(QUERY, Policy(max_tokens=20))
    with pytest.raises(PromptError, match="lower max_tokens"):
        switcher.begin(QUERY, Policy(max_tokens=200))
