"""The gates' statistics."""

import pytest

from taketurns.pocket.acceptance import paired, switching_beats_chance


def test_exact_mcnemar() -> None:
    first = [True] * 30 + [False] * 10 + [True] * 20
    second = [False] * 25 + [True] * 15 + [True] * 20
    result = paired(first, second)
    assert (result.only_first, result.only_second) == (25, 10)
    assert result.p == pytest.approx(0.0166738, rel=1e-5)
    assert paired([True], [True]).p == 1.0
    with pytest.raises(ValueError, match="no questions"):
        paired([], [])
    with pytest.raises(ValueError, match="argument 2"):
        paired([True], [True, False])


def test_switching_is_compared_with_the_best_single_checkpoint() -> None:
    switched = {"x": [True] * 10, "y": [True] * 10}
    single = {
        "a": {"x": [True] * 10, "y": [False] * 10},
        "b": {"x": [False] * 10, "y": [False] * 10},
    }
    best, result = switching_beats_chance(switched, single)
    assert best == "a"
    assert (result.only_first, result.only_second) == (10, 0)
    assert result.p == pytest.approx(2 / 1024)
