"""The share of the gain that is kept, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from taketurns.evaluation.distillation import gains

Scores = dict[str, list[list[float]]]


def scores(*rates: float, questions: int = 200, seed: int = 0) -> Scores:
    """Right or wrong answers, one a question, of tasks with these rates."""
    draws = np.random.default_rng(seed)
    return {
        f"task {n}": [[float(x)] for x in draws.permutation(questions) < rate * questions]
        for n, rate in enumerate(rates)
    }


def test_the_share_is_of_the_means_over_tasks() -> None:
    found = gains(scores(0.5, 0.9), scores(0.3, 0.7, seed=1), scores(0.7, 0.8, seed=2))
    assert found.student.value == pytest.approx(0.2)
    assert found.team.value == pytest.approx(0.25)
    assert found.kept is not None
    assert found.kept.value == pytest.approx(0.8)
    assert 0 < found.kept.low < 0.8 < found.kept.high


def test_what_answers_as_the_team_keeps_all_of_it_for_sure() -> None:
    """Questions are resampled together: that the team's own score varies is not held against the
    student."""
    aligned, team = scores(0.3), scores(0.6, seed=1)
    found = gains(team, aligned, team)
    assert found.kept is not None
    assert (found.kept.low, found.kept.value, found.kept.high) == (1.0, 1.0, 1.0)
    assert found.team.low < 0.3 < found.team.high
    nothing = gains(aligned, aligned, team)
    assert nothing.kept is not None
    assert (nothing.kept.low, nothing.kept.high) == (0.0, 0.0)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """60 studies of a student that keeps half of a gain of .4, 80 questions each."""
    held = 0
    for study in range(60):
        draws = np.random.default_rng(study)
        columns = [[[float(x)] for x in draws.random(80) < rate] for rate in (0.5, 0.3, 0.7)]
        found = gains(*({"task": column} for column in columns))
        held += found.kept is not None and found.kept.low <= 0.5 <= found.kept.high
    assert 52 <= held <= 60


def test_a_share_of_a_gain_that_may_be_nothing_is_not_said() -> None:
    found = gains(scores(0.6), scores(0.5, seed=1), scores(0.51, seed=2))
    assert found.kept is None
    assert found.team.low <= 0
    assert found.to_json()["kept"] is None


def test_other_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        gains(scores(0.5), scores(0.5, 0.5), scores(0.5))
    with pytest.raises(ValueError, match="argument"):
        gains(scores(0.5), scores(0.5, questions=9), scores(0.5))
