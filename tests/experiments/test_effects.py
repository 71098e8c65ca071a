"""Forced sequences: what truly helps is found, what does not is not, at the stated rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from taketurns.evaluation.interventions.effects import (
    ForcedDifference,
    differences,
    effects,
    frequencies,
    mean_of,
)
from taketurns.evaluation.interventions.forcing import all_sequences, draw_pair


def records(
    rng: np.random.Generator, count: int, helps: dict[tuple[int, ...], float], length: int = 2
) -> list[dict[str, Any]]:
    """Trials in which a sequence raises the chance of a right answer from a half by what it
    `helps`; boundaries differ in how far the answer is settled."""
    made = []
    every = all_sequences(3, length)
    first = rng.integers(len(every), size=count)
    second = (first + rng.integers(1, len(every), size=count)) % len(every)
    for number, drawn in enumerate(zip(first, second, strict=True)):
        two = [every[one] for one in drawn]
        settled = rng.random() < 0.3
        scores = [float(settled or rng.random() < 0.5 + helps.get(one, 0.0)) for one in two]
        arms = [
            {"speakers": list(one), "taken": length, "score": score}
            for one, score in zip(two, scores, strict=True)
        ]
        made.append(
            {"query": f"q{number // 2}", "task": "t", "category": "ab"[number % 2], "pairs": [arms]}
        )
    return made


def test_a_sequence_that_helps_is_found_and_no_other_is() -> None:
    """One of nine sequences helps by .3 where the answer is open: found in at least 18 of 20
    trials of 800 boundaries; any other is called different in at most 3."""
    found = false = 0
    for trial in range(20):
        made = records(np.random.default_rng(trial), 800, {(0, 1): 0.3})
        result = {one.speakers: one for one in effects(differences(made), 2)}
        assert len(result) == 9
        found += result[0, 1].p < 0.05 and result[0, 1].mean.value > 0
        # The others are measured against one that helps, an eighth of the time.
        false += any(one.p < 0.05 for s, one in result.items() if s != (0, 1))
    assert found >= 18
    assert false <= 3


def test_where_nothing_helps_nothing_is_found() -> None:
    """Family-wise: in at most 5 of 40 families of nine, and of 27."""
    for length, count in ((2, 250), (3, 450)):
        false = 0
        for trial in range(40):
            made = records(np.random.default_rng([trial, length]), count, {}, length)
            false += any(one.p < 0.05 for one in effects(differences(made), length))
        assert false <= 5


def test_intervals_cover_the_effect() -> None:
    covered = 0
    truth = 0.7 * 0.2  # where the answer is open
    for trial in range(40):
        made = records(np.random.default_rng([7, trial]), 500, {(1, 1): 0.2})
        (one,) = (e for e in effects(differences(made), 2) if e.speakers == (1, 1))
        covered += one.mean.low <= truth <= one.mean.high
    assert covered >= 34


def test_answers_to_one_query_count_as_one() -> None:
    one = ForcedDifference("q", "t", "c", (0, 1), 2, 1.0)
    others = [ForcedDifference(f"q{i}", "t", "c", (0, 1), 2, float(i % 2)) for i in range(10)]
    assert mean_of([one, *others]) == mean_of([one] * 30 + others)
    assert mean_of([one] * 30 + others).queries == 11


def test_differences_that_never_vary_are_not_sure_of_themselves() -> None:
    same = mean_of([ForcedDifference(f"q{i}", "t", "c", (0, 1), 2, 0.0) for i in range(25)])
    assert (same.value, same.p) == (0.0, 1.0)
    assert same.low < 0 < same.high
    lone = mean_of([ForcedDifference("q", "t", "c", (0, 1), 2, 1.0)])
    assert lone.p == 1.0
    assert lone.low < 0.3


def test_sequences_with_few_questions_are_left_out() -> None:
    made = records(np.random.default_rng(0), 60, {})
    assert effects(differences(made), 2, least=1000) == []
    kept = effects(differences(made), 2, least=3)
    assert all(one.mean.queries >= 3 for one in kept)
    assert all(set(one.by_category) <= {"a", "b"} for one in kept)


def test_a_pair_counts_for_both_its_sequences() -> None:
    arms = [{"speakers": [0, 1], "taken": 2, "score": 1.0},
            {"speakers": [2, 2], "taken": 1, "score": 0.0}]  # fmt: skip
    own, other = differences([{"query": "q", "task": "t", "category": "c", "pairs": [arms]}])
    assert (own.speakers, own.difference) == ((0, 1), 1.0)
    assert (other.speakers, other.difference, other.taken) == ((2, 2), -1.0, 1)


def test_pairs_are_drawn_evenly_and_differ() -> None:
    drawn = [draw_pair(3, 2, seed) for seed in range(1800)]
    assert all(first != second for first, second in drawn)
    for place in range(2):
        counts = [sum(two[place] == one for two in drawn) for one in all_sequences(3, 2)]
        assert min(counts) > 140
        assert max(counts) < 260
    assert drawn[:5] == [draw_pair(3, 2, seed) for seed in range(5)]


def test_frequencies_are_shares_of_all_places() -> None:
    found = frequencies([[0, 1, None, 1], [0], [0, 1]], 2)
    assert found == pytest.approx({(0, 1): 2 / 3, (1, 1): 1 / 3})
    assert frequencies([[0]], 3) == {}
