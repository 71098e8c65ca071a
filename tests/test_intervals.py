"""Means with intervals: the question is the unit."""

from __future__ import annotations

import pytest
from statsmodels.stats.proportion import proportion_confint

from taketurns.evaluation.statistics import average, share, wilson


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
