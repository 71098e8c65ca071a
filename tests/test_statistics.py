"""Planted differences are found, absent ones are not, and the numbers are those of a textbook."""

from __future__ import annotations

from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from taketurns.evaluation.statistics import (
    average,
    combined,
    exact_mcnemar,
    gain,
    holm,
    paired,
    share,
    spread,
    tally,
    wilson,
)

Values = dict[str, list[list[float]]]
TRIALS = 200


def answers(rng: np.random.Generator, chances: np.ndarray, seeds: int) -> list[list[float]]:
    """Right or wrong answers: a question's chance is its own, its seeds are drawn with it."""
    return (rng.random((len(chances), seeds)) < chances[:, None]).astype(float).tolist()


def two_methods(rng: np.random.Generator, planted: float, questions: int) -> tuple[Values, Values]:
    """Two methods on three tasks, whose questions are hard or easy for both of them."""
    first, second = {}, {}
    for task in "abc":
        hard = rng.beta(0.5, 0.5, questions)  # questions differ much more than seeds do
        first[task] = answers(rng, np.clip(hard + planted, 0, 1), 3)
        second[task] = answers(rng, hard, 3)
    return first, second


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.evaluation.statistics.RESAMPLES", 499)


def test_a_planted_difference_is_found_and_measured() -> None:
    """Eight points on 80 questions a task: nearly always significant, and the interval holds the
    truth about as often as it says."""
    rng = np.random.default_rng(1)
    found = covered = 0
    for trial in range(TRIALS // 2):
        first, second = two_methods(rng, 0.08, 80)
        result = paired(first, second, seed=trial)
        found += result.p < 0.05
        # Chances are cut off at 1, so the planted difference is a little less than 0.08.
        covered += result.low < 0.067 < result.high
    assert found >= 0.95 * TRIALS // 2
    assert covered >= 0.88 * TRIALS // 2


def test_where_nothing_differs_nothing_is_found() -> None:
    """Of tests at 5 %, about 5 % err, although seeds of one question hang together."""
    rng = np.random.default_rng(2)
    errors = missed = mcnemar = 0
    for trial in range(TRIALS):
        first, second = two_methods(rng, 0.0, 40)
        result = paired(first, second, seed=trial)
        errors += result.p < 0.05
        missed += not result.low <= 0 <= result.high
        mcnemar += (result.mcnemar or 0) < 0.05
    assert errors <= 0.09 * TRIALS
    assert missed <= 0.10 * TRIALS
    assert mcnemar <= 0.09 * TRIALS


def test_more_seeds_of_one_question_are_not_more_questions() -> None:
    """Fault: counting every answer. Ten seeds that always agree must not make a difference
    surer."""
    one = {"t": [[1.0], [0.0]] * 10 + [[1.0]] * 6}, {"t": [[1.0], [0.0]] * 10 + [[0.0]] * 6}
    ten = tuple({"t": [question * 10 for question in side["t"]]} for side in one)
    once, often = paired(*one), paired(*ten)
    assert (often.p, often.low, often.high) == pytest.approx((once.p, once.low, once.high))
    assert (often.only_first, often.mcnemar) == (once.only_first, once.mcnemar) == (6, 2 / 2**6)


def test_the_permutation_test_is_exact_where_it_can_be() -> None:
    first = {"t": [[0.9], [0.4], [0.8], [0.7]]}
    second = {"t": [[0.5], [0.5], [0.1], [0.3]]}
    differences = [0.4, -0.1, 0.7, 0.4]
    seen = sum(differences)
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True))
            for signs in product((1, -1), repeat=4)]  # fmt: skip
    by_hand = 2 * sum(total >= seen - 1e-9 for total in sums) / 16
    result = paired(first, second)
    assert result.p == pytest.approx(by_hand)
    assert result.mcnemar is None  # graded scores are not right or wrong
    assert result.difference == pytest.approx(seen / 4)


def test_tasks_count_the_same() -> None:
    first = {"large": [[1.0]] * 90, "small": [[0.0]] * 10}
    second = {"large": [[0.0]] * 90, "small": [[1.0]] * 10}
    assert paired(first, second).difference == pytest.approx(0.0)


def test_equal_methods_are_not_called_surely_equal() -> None:
    same = {"t": [[1.0, 1.0]] * 20}
    result = paired(same, same)
    assert (result.difference, result.p, result.mcnemar) == (0.0, 1.0, 1.0)
    assert -0.2 < result.low < 0 < result.high < 0.2


def test_a_task_may_have_one_question_only() -> None:
    """Beside a larger one it shifts the interval and adds nothing to its width."""
    more = [[1.0]] * 12 + [[0.0]] * 8
    first, second = {"one": [[1.0]], "more": more}, {"one": [[0.0]], "more": [[0.5]] * 20}
    result, larger = paired(first, second), paired({"t": more}, {"t": [[0.5]] * 20})
    assert result.difference == pytest.approx(0.55)
    assert result.low < 0.55 < result.high
    assert result.high - result.low == pytest.approx((larger.high - larger.low) / 2, abs=0.03)


def test_other_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        paired({"a": [[1.0]]}, {"b": [[1.0]]})
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired({"a": [[1.0]]}, {"a": [[1.0], [0.0]]})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_what_statsmodels_says(p_values: list[float]) -> None:
    with patch("gc.collect"):  # which statsmodels calls every time, for a second of this process
        theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(theirs)


def test_holm_keeps_the_family_wise_error() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    rng = np.random.default_rng(3)
    families = rng.random((50, 10))
    assert np.mean([min(holm([*family])) < 0.05 for family in families]) <= 0.12


def test_over_tasks() -> None:
    first = {"a": 0.5, "b": 0.75, "c": 0.25, "d": 0.5, "e": 0.9, "f": 0.8}
    second = {"a": 0.4, "b": 0.5, "c": 0.25, "d": 0.6, "e": 0.2, "f": 0.4}
    result = tally(first, second)
    assert (result.wins, result.ties, result.losses) == (4, 1, 1)
    assert result.wilcoxon == pytest.approx(0.125, abs=0.07)
    assert tally(first, first) == tally(second, second)
    assert tally(first, first).wilcoxon == 1.0


def test_seeds_are_told_from_questions() -> None:
    rng = np.random.default_rng(4)
    coins = spread({"t": answers(rng, np.full(400, 0.5), 5)})
    assert coins.within_questions == pytest.approx(0.25, abs=0.02)
    assert coins.between_questions == pytest.approx(0.0, abs=0.02)
    assert coins.deviation == pytest.approx(0.025, abs=0.02)
    settled = spread({"t": [[1.0] * 5, [0.0] * 5] * 20})
    assert (settled.within_questions, settled.deviation) == (0.0, 0.0)
    assert settled.between_questions == pytest.approx(0.256, abs=0.001)
    assert spread({"t": [[1.0], [0.0]]}).deviation is None


def test_gains_as_the_paper_computes_them_and_plainly() -> None:
    """A task on which the other is near nothing rules the mean of ratios; the absolute gain says
    so."""
    ours, other = {"a": 0.2, "b": 0.8, "c": 0.5}, {"a": 0.1, "b": 0.8, "c": 0.0}
    found = gain(ours, other)
    assert found.relative == pytest.approx((1.0 + 0.0) / 2)
    assert found.left_out == 1
    assert found.of_average == pytest.approx(1.5 / 0.9 - 1)
    assert found.absolute == pytest.approx(0.2)
    assert gain(ours, dict.fromkeys(ours, 0.0)).relative is None
    both = [{"a": 0.2, "b": 0.6}, {"a": 0.4, "b": 0.2}]
    assert combined(both, "mean") == pytest.approx({"a": 0.3, "b": 0.4})
    assert combined(both, "best") == {"a": 0.4, "b": 0.6}


@pytest.mark.parametrize(("right", "n"), [(77, 500), (0, 10), (10, 10), (3.5, 12.25)])
def test_wilson_is_what_statsmodels_says(right: float, n: float) -> None:
    assert wilson(right / n, n) == pytest.approx(proportion_confint(right, n, method="wilson"))


def test_an_interval_counts_questions_not_only_answers() -> None:
    """Five answers to one question that always agree are one answer."""
    agreeing = share([(1.0,) * 5, (0.0,) * 5] * 20)
    mixed = share([(1.0, 0.0) * 5, (0.0, 1.0) * 5] * 20)
    single = share([(1.0,), (0.0,)] * 20)
    assert (agreeing.mean, agreeing.n) == (0.5, 40)
    assert agreeing.high - agreeing.low == pytest.approx(single.high - single.low)
    assert mixed.high - mixed.low < 0.5 * (agreeing.high - agreeing.low)


def test_certainty_is_never_complete() -> None:
    perfect = share([(1.0,)] * 30)
    assert perfect.mean == perfect.high == 1
    assert 0.85 < perfect.low < 0.9
    assert share([(0.0,)]).high < 1


def test_the_average_counts_every_task_the_same() -> None:
    whole = average({"big": [(1.0,)] * 90, "small": [(0.0,)] * 10})
    assert whole.mean == 0.5
    assert 0.3 < whole.low < 0.5 < whole.high < 0.7
    assert whole.n == 100


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (25, 10), (3, 40)])
def test_the_exact_test_is_what_statsmodels_says(only_first: int, only_second: int) -> None:
    table = [[7, only_first], [only_second, 5]]
    wanted = mcnemar(table, exact=True).pvalue if only_first + only_second else 1.0
    assert exact_mcnemar(only_first, only_second) == pytest.approx(wanted)
