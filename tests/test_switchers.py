"""Speakers are drawn from the switcher's distribution, by top-p, and from nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.config.policy import Policy
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError, PromptError, UnavailableError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.sampling import normalise, pick
from taketurns.types import Candidate, ModelSpec, Query, Sampling
from taketurns.utils.seeds import generator

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
        draft = GenerationState(
            QUERY,
            [CandidateRuntime(Candidate(n, ModelSpec(n)), await engine.info(n)) for n in "ab"],
            (),
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


async def test_a_switcher_whose_context_is_full_in_mid_answer_decides_evenly() -> None:
    """Fault: it was asked on, and with its refusal what was written was lost. More than the budget
    comes together where its tokenizer is finer than the speakers'; here the surplus is forced."""
    engine = ScriptedEngine({"a": [], "b": []}, scores={"switcher": [0.2, 0.8]}, context=300)
    switcher = LMSwitcher("switcher")
    infos = [await engine.info("a"), await engine.info("b")]
    await switcher.prepare(engine, infos)
    policy = Policy(max_tokens=20)
    readers = [CandidateRuntime(Candidate(info.name, ModelSpec(info.name)), info) for info in infos]
    empty = GenerationState(QUERY, readers, ())
    room = 300 - len(switcher.tagged(QUERY).prompt(()))
    async with engine.session(1) as session:
        for surplus, asked in ((room - 1, True), (room, False), (room + 9, False)):
            engine.calls.clear()
            draft = empty.copy()
            draft.force(0, "x" * surplus)
            decided = await switcher.begin(QUERY, policy)(session, draft)
            assert decided == pytest.approx((0.2, 0.8) if asked else (0.5, 0.5))
            assert bool(engine.calls) == asked


NAMES = ("a", "b", "c")
TOKENS = (1, 2, 3)


def folded(**options: Any) -> Team:
    """Each would go on itself, but c calls for a."""

    def script(prompt: str, sampling: Sampling) -> str:
        return "x" * 9

    own = {"a": [0.08, 0.01, 0.01], "b": [0.01, 0.08, 0.01], "c": [0.06, 0.01, 0.03]}
    engine = ScriptedEngine(
        dict.fromkeys(NAMES, script), scores=own, suppressed_token_ids=TOKENS, **options
    )
    candidates = [Candidate(name, ModelSpec(name)) for name in NAMES]
    policy = Policy(patch_size=4, max_tokens=12, greedy_switcher=True)
    return Team(candidates, engine, FoldedSwitcher(TOKENS, 2), policy)


async def test_a_folded_switcher_decides_by_what_came_with_the_patch() -> None:
    for opening, calls in ((None, ["score", *["generate"] * 3]), (1, ["generate"] * 3)):
        team = folded()
        trace = await team.agenerate(QUERY, policy=replace(team.policy, opening=opening))
        assert [call.kind for call in team.engine.calls] == calls  # type: ignore[attr-defined]
        assert [patch.speaker for patch in trace.patches] == (
            [0] * 3 if opening is None else [1] * 3
        )
        expected = (0.6, 0.1, 0.3) if opening is None else None
        assert trace.patches[0].probabilities == (expected and pytest.approx(expected))
        assert trace.patches[1].probabilities == pytest.approx(
            (0.8, 0.1, 0.1) if opening is None else (0.1, 0.8, 0.1)
        )


async def test_what_a_rule_decides_is_not_asked_for() -> None:
    team = folded()
    await team.agenerate(QUERY, policy=replace(team.policy, opening=0, closing=1))
    asked = [call.sampling.choices for call in team.engine.calls]  # type: ignore[attr-defined]
    assert asked == [TOKENS, (), ()]


async def test_a_folded_switcher_whose_reader_is_gone_leaves_the_rest_a_chance() -> None:
    gone = UnavailableError("nobody there")
    team = folded(failures={0: gone, 1: gone})
    trace = await team.agenerate(QUERY, policy=replace(team.policy, opening=2))
    assert trace.error is None
    assert [(patch.speaker, patch.reason) for patch in trace.patches][:2] == [
        (0, "fallback"),
        (0, "chosen"),
    ]
    assert trace.patches[0].probabilities == pytest.approx((1 / 3,) * 3)


async def test_tokens_that_may_be_written_cannot_stand_for_candidates() -> None:
    team = folded()
    team = team.switched_by(FoldedSwitcher((1, 2, 9), 0))
    with pytest.raises(ConfigError, match="a may write token 9"):
        await team.agenerate(QUERY)
