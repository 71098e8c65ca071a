"""A switcher's probabilities and choices against planted utilities."""

from __future__ import annotations

import numpy as np
import pytest

from taketurns.evaluation.interventions import calibration
from taketurns.evaluation.interventions.calibration import (
    SwitcherDecision,
    assess,
    calibrate,
    regret,
)


def planted(
    rng: np.random.Generator, count: int, *, sharpen: float = 1.0, k: int = 4
) -> list[SwitcherDecision]:
    """The winner of a boundary is drawn from the true probabilities; the switcher gives those to
    the power of `sharpen`. The winner's rollouts are all right, the others' all wrong."""
    made = []
    for number in range(count):
        true = rng.dirichlet([1.0, 1.0, 1.0])
        winner = rng.choice(3, p=true)
        given = true**sharpen / (true**sharpen).sum()
        p = tuple(float(x) for x in given)
        utilities = tuple((float(i == winner),) * k for i in range(3))
        made.append(SwitcherDecision(f"q{number}", "t", number % 6, p, p, utilities))
    return made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "RESAMPLES", 100)


def test_planted_calibration_is_told_from_confidence_and_from_diffidence() -> None:
    """Of 20 trials of 400 boundaries, a calibrated switcher's error is within chance in at least
    17; one that is too sure, or too unsure, is beyond chance in all."""
    within = 0
    for trial in range(20):
        rng = np.random.default_rng(trial)
        good = calibrate(planted(rng, 400))
        within += good.error <= good.by_chance_high
        assert good.brier < good.brier_shares < 0.68
        for sharpen in (3.0, 0.3):
            bad = calibrate(planted(rng, 400, sharpen=sharpen))
            assert bad.error > bad.by_chance_high
            assert bad.brier > good.brier
            assert (bad.too_sure > 0.05) == (sharpen > 1)
    assert within >= 17


def test_the_reliability_table_shows_what_was_planted() -> None:
    rng = np.random.default_rng(3)
    honest = calibrate(planted(rng, 2000))
    assert all(one.low - 0.03 <= one.given <= one.high + 0.03 for one in honest.bins)
    assert sum(one.count for one in honest.bins) == 6000
    sure = calibrate(planted(rng, 2000, sharpen=3.0))
    assert sure.bins[-1].given > sure.bins[-1].high
    assert sure.bins[0].given < sure.bins[0].low


def test_error_and_brier_by_hand() -> None:
    one = SwitcherDecision("q", "t", 0, (0.75, 0.25), (0.75, 0.25), ((1.0, 1.0), (0.0, 0.0)))
    other = SwitcherDecision("r", "t", 0, (0.75, 0.25), (0.75, 0.25), ((0.0, 0.0), (1.0, 0.0)))
    found = calibrate([one, other])
    # Given .75: won 1 of 2; given .25: won 1 of 2.
    assert found.error == pytest.approx(0.25)
    assert found.brier == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)
    assert found.brier_even == pytest.approx(0.5)


def test_those_that_tie_share_the_win() -> None:
    one = SwitcherDecision("q", "t", 0, (0.5, 0.3, 0.2), (1.0, 0.0, 0.0), ((1.0,), (1.0,), (0.0,)))
    assert one.wins == (0.5, 0.5, 0.0)
    assert one.regret(one.drawn) == 0.0
    assert one.regret((0.0, 0.0, 1.0)) == 1.0


def test_regret_of_the_drawn_the_most_probable_and_the_constant() -> None:
    decisions = [
        SwitcherDecision("q", "a", 0, (0.6, 0.4), (1.0, 0.0), ((1.0, 1.0), (0.0, 0.0))),
        SwitcherDecision("r", "b", 1, (0.4, 0.6), (0.5, 0.5), ((0.8, 0.8), (0.2, 0.2))),
    ]
    found = regret(decisions)
    assert found.drawn == pytest.approx((0.0 + 0.3) / 2)
    assert found.most_probable == pytest.approx((0.0 + 0.6) / 2)
    assert found.random == pytest.approx((0.5 + 0.3) / 2)
    assert (found.always, found.always_who) == (0.0, 0)
    assert found.agreement == 0.5


def test_noise_is_not_regret() -> None:
    """All candidates are equally good, with eight coin tosses each: the best of noisy means seems
    lost, the honest figure does not."""
    rng = np.random.default_rng(5)
    decisions = [
        SwitcherDecision(
            f"q{n}", "t", 0, (1 / 3,) * 3, (1 / 3,) * 3,
            tuple(tuple(map(float, rng.integers(0, 2, 8))) for _ in range(3)),
        )
        for n in range(400)
    ]  # fmt: skip
    found = regret(decisions)
    assert found.drawn > 0.1
    assert abs(found.honest) < 0.025
    assert found.low < found.drawn < found.high


def test_a_branch_that_ended_has_one_utility() -> None:
    one = SwitcherDecision("q", "t", 0, (0.5, 0.5), (0.0, 1.0), ((1.0,), (0.0, 0.0, 1.0, 1.0)))
    assert one.regret(one.drawn) == pytest.approx(0.5)
    assert one.honest_regret(one.drawn) == pytest.approx(0.5)


def test_by_position_and_task() -> None:
    rng = np.random.default_rng(1)
    found = assess(planted(rng, 120))
    assert list(found.by_position) == ["0", "1", "2", "3", "4 or more"]
    assert found.by_position["4 or more"].boundaries == 40
    assert list(found.by_task) == ["t"]
    even = [SwitcherDecision("q", "t", 0, (0.5, 0.5), (0.5, 0.5), ((1.0,), (1.0,)))]
    assert assess(even).calibration is None  # nobody wins
