"""Whether a switcher carries over, in plain words: the verdicts follow what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from taketurns.evaluation.interventions.invariance import PoolChange, TaskScores, measure_invariance


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.evaluation.statistics.RESAMPLES", 499)


def scores(rng: np.random.Generator, right: float, questions: int = 300) -> TaskScores:
    return {t: [[float(rng.random() < right)] for _ in range(questions)] for t in "abc"}


def test_what_was_learned_is_told_from_what_was_memorised() -> None:
    rng = np.random.default_rng(0)
    switch, random = scores(rng, 0.7), scores(rng, 0.4)
    gain, found = measure_invariance(
        switch,
        random,
        [
            PoolChange("permuted", scores(rng, 0.7)),
            PoolChange("renamed", scores(rng, 0.42)),
            PoolChange("half", scores(rng, 0.57)),
            PoolChange("replaced", scores(rng, 0.52), scores(rng, 0.25)),
            PoolChange("replaced by less", scores(rng, 0.3), scores(rng, 0.3)),
            PoolChange("other names", None, refused="the head was trained for a, b, not for c, d"),
        ],
    )
    assert 0.2 < gain.difference < 0.4
    assert [one.verdict for one in found] == [
        "carries over", "does not carry over", "loses some", "carries over",
        "does not carry over", "refuses",
    ]  # fmt: skip
    assert "trained for a, b" in found[-1].sentence
    assert all("%" in one.sentence for one in found[:-1])


def test_who_gains_nothing_has_nothing_to_lose() -> None:
    rng = np.random.default_rng(1)
    gain, found = measure_invariance(
        scores(rng, 0.4), scores(rng, 0.4), [PoolChange("p", scores(rng, 0.2))]
    )
    assert gain.low <= 0
    assert found[0].verdict == "nothing to lose"
    assert found[0].kept is None


def test_no_loss_is_not_called_one() -> None:
    """The change changes nothing: of 30 trials, at most 3 say that anything was lost."""
    called = 0
    for trial in range(30):
        rng = np.random.default_rng([2, trial])
        _, found = measure_invariance(
            scores(rng, 0.6, 60), scores(rng, 0.3, 60), [PoolChange("p", scores(rng, 0.6, 60))]
        )
        called += found[0].verdict != "carries over"
    assert called <= 3
