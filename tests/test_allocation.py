"""Where rollouts go: evenly, or where it is open which branch is best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.training.labels.allocation import Allocation, Arm, Racing, Uniform, allocation_named


def play(
    allocation: Allocation, means: list[float], seed: int, ended: tuple[int, ...] = ()
) -> list[Arm]:
    """A prefix whose branches are worth `means`; rollouts are drawn ahead, as seeds draw them."""
    draws = np.random.default_rng(seed).random((len(means), 200)) < np.array(means)[:, None]
    arms = [Arm((mean,) if i in ended else (), i in ended) for i, mean in enumerate(means)]
    while any(more := allocation.more(arms)):
        reach = [arm.spent + count for arm, count in zip(arms, more, strict=True)]
        arms = [
            arm if arm.ended else Arm(tuple(map(float, draws[i, : reach[i]])))
            for i, arm in enumerate(arms)
        ]
    return arms


def spent(arms: list[Arm]) -> int:
    return sum(arm.spent for arm in arms if not arm.ended)


def mean(arm: Arm) -> float:
    return sum(arm.known) / len(arm.known)


def test_uniform_gives_every_branch_the_same() -> None:
    arms = play(Uniform(7), [0.1, 0.9, 0.5], 0)
    assert [arm.spent for arm in arms] == [7, 7, 7]
    assert play(Uniform(7), [0.1, 1.0], 0, ended=(1,))[0].spent == 7
    assert Uniform(7).best(arms) is None


def test_failures_count_as_spent() -> None:
    assert Uniform(3).more([Arm((None, 1.0)), Arm((None, None, None))]) == (1, 0)


def test_a_clear_race_ends_early() -> None:
    arms = play(Racing(32), [0.0, 1.0, 0.0], 0)
    assert [arm.spent for arm in arms] == [4, 4, 4]
    assert Racing(32).best(arms) == (1,)


def test_nobody_races_against_a_branch_that_cannot_be_beaten() -> None:
    arms = play(Racing(32), [1.0, 0.7, 0.9], 0, ended=(0,))
    assert [arm.spent for arm in arms[1:]] == [4, 4]
    assert play(Racing(32), [1.0, 0.0, 1.0], 0, ended=(0, 1, 2))[1].spent == 1


def test_branches_that_are_alike_are_recorded_as_ties() -> None:
    racing = Racing(32)
    for worth in (0.0, 1.0):
        arms = play(racing, [worth] * 3, 0)
        assert racing.best(arms) == (0, 1, 2)
        assert spent(arms) < 60
    assert racing.best([Arm((0.0,), True), Arm((0.0,) * 8), Arm((1.0,) * 8)]) == (2,)


def test_an_open_race_goes_on_among_those_who_are_in_it() -> None:
    races = [play(Racing(32), [0.5, 0.5, 0.0], seed) for seed in range(50)]
    first, second, third = np.mean([[arm.spent for arm in arms] for arms in races], axis=0)
    assert third < 10
    assert min(first, second) > 2 * third
    assert sum(max(arm.spent for arm in arms) == 32 for arms in races) > 10


def test_a_branch_that_was_given_up_early_is_not_called_best_by_its_luck() -> None:
    """Three of four against 18 of 25: the few say less."""
    early, late = Arm((1.0, 1.0, 1.0, 0.0)), Arm((1.0,) * 18 + (0.0,) * 7)
    assert mean(early) > mean(late)
    assert Racing(alike=0.0).best([early, late, Arm((0.0,) * 4)]) == (1,)


def test_the_best_come_first() -> None:
    arms = [Arm((0.5,) * 20), Arm((0.51,) * 20), Arm((0.1,) * 20)]
    assert Racing(alike=0.05).best(arms) == (1, 0)


@given(
    st.lists(st.lists(st.none() | st.floats(0, 1), max_size=40), min_size=2, max_size=6),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_no_branch_gets_more_than_k_and_the_race_ends(
    utilities: list[list[float | None]], k: int, first: int
) -> None:
    racing = Racing(k, first=first)
    arms = [Arm(tuple(found[:k])) for found in utilities]
    for _ in range(200):
        more = racing.more(arms)
        assert all(arm.spent + count <= k for arm, count in zip(arms, more, strict=True))
        assert all(more[i] > 0 for i, arm in enumerate(arms) if arm.spent < min(first, k))
        if not any(more):
            break
        arms = [
            Arm((*arm.utilities, *(0.5,) * count)) for arm, count in zip(arms, more, strict=True)
        ]
    else:
        pytest.fail("the race does not end")
    assert racing.best(arms)


@pytest.mark.parametrize("loss", [0.005, 0.012, 0.03])
@pytest.mark.parametrize("shape", [(0.5, 0.5), (1, 1), (0.3, 1.0), (2, 2)])
@pytest.mark.parametrize("pool", [2, 3, 5])
def test_no_more_is_lost_than_was_accepted(
    pool: int, shape: tuple[float, float], loss: float
) -> None:
    """On bandits of every kind: the branch that is called best is worse than the best one by no
    more than was accepted for each rival, on average."""
    rng = np.random.default_rng(pool)
    racing = Racing(200, loss=loss, alike=0.0)
    lost = []
    for seed in range(200):
        means = list(rng.beta(*shape, size=pool))
        lost.append(max(means) - means[racing.best(play(racing, means, seed))[0]])
    assert np.mean(lost) <= loss * (pool - 1)


def test_racing_spends_less_and_loses_little() -> None:
    rng = np.random.default_rng(1)
    cost, regret = {"uniform": 0, "racing": 0}, {"uniform": 0.0, "racing": 0.0}
    for seed in range(300):
        means = list(rng.beta(0.3, 0.5, size=3))
        for allocation in (Uniform(32), Racing(32)):
            arms = play(allocation, means, seed)
            cost[allocation.name] += spent(arms)
            regret[allocation.name] += (
                max(means)
                - means[(allocation.best(arms) or [max(range(3), key=lambda i: mean(arms[i]))])[0]]
            )
    assert cost["racing"] < 0.5 * cost["uniform"]
    assert regret["racing"] / 300 < regret["uniform"] / 300 + 0.005


def test_fractions_of_a_success_are_evidence_too() -> None:
    sure = Racing(32).more([Arm((0.9,) * 8), Arm((0.1,) * 8)])
    assert sure == (0, 0)
    assert Racing(32).more([Arm((0.6,) * 8), Arm((0.5,) * 8)]) == (4, 4)


def test_allocations_by_name() -> None:
    assert allocation_named("uniform", 5) == Uniform(5)
    assert allocation_named("racing", 5) == Racing(5)
    assert allocation_named("uniform") == Uniform(8)
    assert allocation_named("racing") == Racing(32)
