"""What a candidate adds: Shapley's values by hand and by axiom; planted helpers are found."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns.evaluation.interventions import shapley as shapley_module
from taketurns.evaluation.interventions.shapley import (
    Coalition,
    beyond_alone,
    coalitions,
    left_out,
    shapley,
    study,
)

GLOVES = {  # a left glove and two right ones: a pair is worth 1
    Coalition({0}): 0.0, Coalition({1}): 0.0, Coalition({2}): 0.0,
    Coalition({0, 1}): 1.0, Coalition({0, 2}): 1.0, Coalition({1, 2}): 0.0,
    Coalition({0, 1, 2}): 1.0,
}  # fmt: skip


def every(candidates: int) -> list[Coalition]:
    return [
        Coalition(s) for n in range(1, candidates + 1) for s in combinations(range(candidates), n)
    ]


@st.composite
def worths(draw: st.DrawFn) -> tuple[dict[Coalition, float], int]:
    candidates = draw(st.integers(2, 4))
    scores = st.floats(0, 1)
    return {part: draw(scores) for part in every(candidates)}, candidates


def test_by_hand() -> None:
    assert shapley(GLOVES, 3) == pytest.approx((2 / 3, 1 / 6, 1 / 6))
    assert left_out(GLOVES, 3) == pytest.approx((1.0, 0.0, 0.0))
    # Of the orders in which 0 is not first, it always completes a pair.
    assert beyond_alone(GLOVES, 3) == pytest.approx((1.0, 0.25, 0.25))


@given(worths())
def test_values_share_out_the_worth_of_the_pool(given_: tuple[dict[Coalition, float], int]) -> None:
    worth, candidates = given_
    assert sum(shapley(worth, candidates)) == pytest.approx(worth[Coalition(range(candidates))])


@given(worths(), st.data())
def test_equals_get_equal_values_and_who_adds_nothing_gets_nothing(
    given_: tuple[dict[Coalition, float], int], data: st.DataObject
) -> None:
    worth, candidates = given_
    swap = {0: 1, 1: 0}
    alike = {
        part: (own + worth[Coalition(swap.get(i, i) for i in part)]) / 2
        for part, own in worth.items()
    }
    first, second, *_ = shapley(alike, candidates)
    assert first == pytest.approx(second)
    dummy = {part: 0.0 if part == {0} else worth[part - {0}] for part in every(candidates)}
    assert shapley(dummy, candidates)[0] == pytest.approx(0.0)
    assert left_out(dummy, candidates)[0] == pytest.approx(0.0)


def test_all_parts_are_asked_of_up_to_four_candidates() -> None:
    assert [len(coalitions(n)) for n in (2, 3, 4)] == [3, 7, 15]
    assert len(coalitions(6)) == 6 + 6 + 1
    assert coalitions(3)[-1] == {0, 1, 2}


def answers(
    rng: np.random.Generator, tasks: int, questions: int, worth: dict[Coalition, float]
) -> dict[str, dict[Coalition, list[float]]]:
    return {
        f"t{task}": {
            part: [float(x) for x in rng.random(questions) < own] for part, own in worth.items()
        }
        for task in range(tasks)
    }


def test_who_helps_is_found_and_who_does_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidate 0 adds .25 to any part, 1 as much, 2 nothing: of 40 trials, the first two are found
    in at least 38, the third is called helpful in at most 6 (95 % intervals)."""
    monkeypatch.setattr(shapley_module, "FEW_RESAMPLES", 300)
    monkeypatch.setattr(shapley_module, "FEWEST", 99)
    worth = {p: max(0.1, 0.1 + 0.25 * (0 in p) + 0.25 * (1 in p)) for p in coalitions(3)}
    found = np.zeros(3)
    for trial in range(40):
        result = study(answers(np.random.default_rng([9, trial]), 3, 60, worth))
        for one in result.whole:
            assert one.left_out.low is not None
            assert one.left_out.high is not None
            found[one.candidate] += not one.left_out.low <= 0 <= one.left_out.high
    assert found[0] >= 38
    assert found[1] >= 38
    assert found[2] <= 6


def test_a_lucky_draw_of_questions_does_not_correlate_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All candidates are equally good on their own and equally helpful. Where both are read off
    the same few questions, what a candidate adds to the others falls as its own score rises by
    chance; on separate ones it does not."""
    monkeypatch.setattr(shapley_module, "FEW_RESAMPLES", 40)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(60):
        table = {}
        for task in range(4):
            ability = rng.random(20)  # of these questions, for everybody
            one = {
                p: [float(rng.random() < a) for a in ability] for p in coalitions(3) if len(p) > 1
            }
            alone = {Coalition({i}): [float(rng.random() < a) for a in ability] for i in range(3)}
            table[f"t{task}"] = {**alone, **one}
        result = study(table).left_out.within
        assert result is not None
        drawn.append(result.value)
    assert abs(np.mean(drawn)) < 0.1


def test_helpfulness_that_follows_the_own_score_correlates_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shapley_module, "FEW_RESAMPLES", 400)
    rng = np.random.default_rng(1)
    scores = {}
    for task in range(8):
        own = rng.random(3)
        worth = {p: float(sum(own[i] for i in p) / 3) for p in coalitions(3)}
        scores[f"t{task}"] = {
            p: [float(x) for x in rng.random(200) < chance] for p, chance in worth.items()
        }
    result = study(scores)
    assert result.left_out.pairs is not None
    assert result.left_out.pairs.low is not None
    assert result.left_out.pairs.value > 0.6
    assert result.left_out.pairs.low > 0.3
    assert result.shapley is not None


def test_more_than_four_candidates_have_no_shapley_values() -> None:
    scores = {t: {p: [1.0, 0.0] for p in coalitions(5)} for t in "ab"}
    result = study(scores)
    assert result.shapley is None
    assert all(one.shapley is None for one in result.whole)
    assert result.left_out.pairs is None  # nothing varies


@settings(max_examples=20)
@given(worths())
def test_the_whole_is_the_mean_of_the_tasks(given_: tuple[dict[Coalition, float], int]) -> None:
    worth, candidates = given_
    result = study({"a": {p: [w, w] for p, w in worth.items()},
                    "b": {p: [0.0, 0.0] for p in worth}})  # fmt: skip
    for one, own in zip(result.whole, result.tasks["a"], strict=True):
        assert one.left_out.value == pytest.approx(own.left_out.value / 2)
        assert one.shapley is not None
        assert own.shapley is not None
        assert one.shapley.value == pytest.approx(own.shapley.value / 2)
    assert len(result.whole) == candidates
