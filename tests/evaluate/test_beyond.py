"""What is solved beyond the single checkpoints is told from another try."""

from __future__ import annotations

from random import Random

import pytest

from taketurns.evaluation.unsolved_coverage import Round, halved, unsolved_coverage

pytest.importorskip("statsmodels", reason="needs the eval extra")

Scores = dict[str, dict[str, list[list[float]]]]


def scores(rng: Random, new: float, questions: int = 120, seeds: int = 4) -> Scores:
    """A fifth of the questions is easy for all, the rest is solved now and then by whoever tries;
    the team solves a share `new` of them every time."""
    found: Scores = {name: {"sums": []} for name in ("base", "tuned", "random", "switch")}
    for number in range(questions):
        luck = 0.9 if number % 5 == 0 else 0.1
        able = rng.random() < new
        for name, tasks in found.items():
            p = 0.95 if name == "switch" and able else luck
            tasks["sums"].append([float(rng.random() < p) for _ in range(seeds)])
    return found


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.evaluation.statistics.RESAMPLES", 999)


def test_another_try_is_no_new_skill_and_a_new_skill_is() -> None:
    false = found = 0
    for trial in range(40):
        rounds = halved(scores(Random(trial), 0.0), ("base", "tuned"), ("switch", "random"))
        beyond = unsolved_coverage(rounds, "switch")
        assert beyond is not None
        assert all(one.share > 0 for one in beyond.tried)  # chance alone solves some
        false += any(one.p_holm < 0.05 and one.difference > 0 for one in beyond.against)
    for trial in range(10):
        rounds = halved(scores(Random(trial), 0.25), ("base", "tuned"), ("switch", "random"))
        beyond = unsolved_coverage(rounds, "switch")
        assert beyond is not None
        found += all(one.p_holm < 0.05 and one.low > 0 for one in beyond.against)
    assert false <= 0.09 * 40
    assert found >= 9


def test_tries_are_other_answers_than_those_that_say_what_is_left() -> None:
    some: Scores = {
        "base": {"a": [[0, 1], [0, 0]], "b": [[1, 1]]},
        "switch": {"a": [[1, 0], [1, 1]], "b": [[1, 1]]},
    }
    rounds = halved(some, ("base",), ("switch",))
    assert [one.defining["base"][0] for one in rounds] == [[1], [0]]
    assert [one.tries["switch"][0] for one in rounds] == [[1], [0]]
    found = unsolved_coverage(rounds, "switch")
    assert found is not None
    # Question a0 is left once of twice, and then tried by the seed that fails; a1 is left twice.
    assert (found.left, found.questions, found.defining, found.tries) == (1.5, 3, 1, 1)
    assert {one.name: one.solved for one in found.tried} == {"switch": 1.0, "base": 0.5}


def test_one_round_has_wilsons_interval_and_nothing_left_is_said() -> None:
    none = [[0.0]] * 100
    some = [[1.0]] * 20 + [[0.0]] * 80
    found = unsolved_coverage(
        [Round({"base": none}, {"switch": some, "base again": none})], "switch"
    )
    assert found is not None
    mine = found.tried[0]
    assert (round(mine.low, 4), round(mine.high, 4)) == (0.1334, 0.2888)
    assert found.against[0].p_holm < 0.01
    assert unsolved_coverage([Round({"base": [[1.0]]}, {"switch": [[1.0]]})], "switch") is None
    assert halved({"base": {"a": [[1]]}, "switch": {"a": [[1]]}}, ("base",), ("switch",)) == []
    assert unsolved_coverage([], "switch") is None


def test_very_many_seeds_are_divided_in_some_ways_only() -> None:
    some = scores(Random(0), 0.0, questions=3, seeds=12)
    assert 30 <= len(halved(some, ("base",), ("switch",))) <= 60
