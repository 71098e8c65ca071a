"""What is planted is found, and what is not there is not, at the stated rates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from random import Random
from statistics import fmean

import pytest

from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.analysis.diagnosis import failure_signs, switcher_stats
from taketurns.evaluation.analysis.effects import (
    by_length,
    frequency_correlations,
    observed_effects,
)
from taketurns.evaluation.analysis.sequences import sequence_frequencies
from taketurns.evaluation.analysis.shares import speaker_shares
from taketurns.evaluation.analysis.skills import SkillLabel, skill_association
from taketurns.evaluation.bootstrap import Ratio

from .conftest import answer, method_answers

pytest.importorskip("statsmodels", reason="needs the eval extra")

TASKS, QUESTIONS, SEEDS = ("sums", "names"), 40, 5
Speakers = Callable[[Random, str, int, float], list[int]]
"""Of an answer, by its task, a speaker that belongs to its question, and the question's ease."""
Score = Callable[[Random, list[int], float], float]


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.evaluation.analysis.effects.SHUFFLES", 999)
    monkeypatch.setattr("taketurns.evaluation.bootstrap.FEW_RESAMPLES", 500)


def by_ease(rng: Random, who: list[int], ease: float) -> float:
    return float(rng.random() < ease)


def make(rng: Random, speakers: Speakers, score: Score = by_ease) -> MethodAnswers:
    """Every question has an ease of its own and is answered under each seed."""
    answers: list[ScoredAnswer] = []
    for task, number in product(TASKS, range(QUESTIONS)):
        ease = rng.random()
        own = rng.randrange(3)
        for seed in range(SEEDS):
            who = speakers(rng, task, own, ease)
            one = answer(who, score(rng, who, ease), question=f"q{number}", seed=seed, task=task)
            answers.append(one)
    return method_answers(answers)


def evenly(rng: Random, task: str, own: int, ease: float) -> list[int]:
    return [rng.randrange(3) for _ in range(rng.randint(2, 4))]


def if_0_then_1(rng: Random, who: list[int], ease: float) -> float:
    helps = (0, 1) in pairwise(who)
    return float(rng.random() < 0.7 * ease + (0.3 if helps else 0.0))


def test_a_sequence_that_helps_is_found() -> None:
    found = 0
    for trial in range(20):
        some = make(Random(trial), evenly, if_0_then_1)
        one = next(one for one in observed_effects(some, (2,)) if one.sequence == (0, 1))
        assert one.low is not None
        assert one.high is not None
        found += one.p_holm is not None and one.p_holm < 0.05 and one.low > 0
        if trial == 0:
            assert one.low < 0.3 < one.high
            assert one.questions > 50
    assert found >= 19


def test_of_sequences_that_do_nothing_none_is_said_to_help() -> None:
    """Nor where easy questions have speakers of their own, as a good switcher gives them."""

    def likes_its_own(rng: Random, task: str, opening: int, ease: float) -> list[int]:
        likely = 0.2 + 0.6 * ease
        return [0 if rng.random() < likely else rng.randrange(3) for _ in range(3)]

    false = 0
    for trial in range(40):
        some = make(Random(trial), likes_its_own)
        false += any(
            one.p_holm is not None and one.p_holm < 0.05 for one in observed_effects(some, (2,))
        )
    assert false <= 0.1 * 40


def test_length_alone_is_told_from_a_sequence() -> None:
    """Long answers are worse here, whatever is in them: comparing as long ones sees that."""

    def shorter_is_better(rng: Random, who: list[int], ease: float) -> float:
        return float(rng.random() < (0.9 if len(who) == 2 else 0.3))

    some = make(Random(3), evenly, shorter_is_better)
    assert fmean(one.effect or 0.0 for one in observed_effects(some, (2,))) < -0.1
    real = observed_effects(some, (2,), by_length)
    assert abs(fmean(one.effect or 0.0 for one in real)) < 0.05
    assert all(one.p_holm is None or one.p_holm > 0.05 for one in real)


def test_speakers_of_tasks_and_questions_are_no_order() -> None:
    """Tasks have speakers of their own and each question an opening of its own, and the patches
    after it do not depend on that: only the naive prediction is off."""

    def drawn(rng: Random, task: str, own: int, ease: float) -> list[int]:
        likes = 0 if task == "sums" else 2
        return [own, *(likes if rng.random() < 0.8 else 1 for _ in range(3))]

    false = 0
    for trial in range(30):
        found = sequence_frequencies(make(Random(trial), drawn))
        false += any(one.p_holm is not None and one.p_holm < 0.05 for one in found)
    assert false <= 0.1 * 30
    twice = next(one for one in found if one.sequence == (0, 0))
    assert twice.over_shares.low > 1.1
    assert twice.over_places.low < 1 < twice.over_places.high


def test_an_order_is_found() -> None:
    def sticky(rng: Random, task: str, own: int, ease: float) -> list[int]:
        who = [rng.randrange(3)]
        while len(who) < 4:
            who.append(who[-1] if rng.random() < 0.5 else rng.randrange(3))
        return who

    found = {one.sequence: one for one in sequence_frequencies(make(Random(0), sticky))}
    for speaker in range(3):
        again = found[speaker, speaker]
        assert again.p_holm is not None
        assert again.p_holm < 0.001
        assert again.over_places.low > 1.5
    twice = fmean(found[speaker, speaker].over_places.value for speaker in range(3))
    assert twice == pytest.approx((0.5 + 0.5 / 3) * 3, abs=0.15)
    assert found[0, 1].over_places.high < 1
    assert sum(one.share.value for one in found.values() if len(one.sequence) == 2) == (
        pytest.approx(1)
    )


def test_frequency_and_effect_are_not_said_to_go_together_by_chance() -> None:
    false = 0
    for trial in range(12):
        some = make(Random(100 + trial), evenly)
        found = frequency_correlations(some, lengths=(2,))
        assert [one.group for one in found] == ["all", "sums in general", "names in general"]
        assert all(one.sequences == 9 for one in found)
        false += any((one.p_holm or 1) < 0.05 for one in found)
    assert false <= 1


def label(some: MethodAnswers, of: Callable[[ScoredAnswer, int, int], str]) -> list[SkillLabel]:
    return [
        SkillLabel(one.question, one.seed, at, of(one, at, who))
        for one in some.answers
        for at, who in enumerate(one.speakers)
    ]


def test_a_skill_that_goes_with_a_speaker_is_found() -> None:
    rng = Random(1)
    some = make(rng, evenly)

    def of(one: ScoredAnswer, at: int, who: int) -> str:
        return "recall" if rng.random() < (0.8 if who == 0 else 0.3) else "reckon"

    found = skill_association(some, label(some, of), "planted")
    assert found.p is not None
    assert found.cramers_v is not None
    assert found.p < 0.001
    assert found.cramers_v.low < 0.47 < found.cramers_v.high
    rows = {row.skill: row.by_speaker[0] for row in found.rows}
    assert rows["recall"].low > rows["reckon"].high


def test_clusters_are_not_taken_for_an_association() -> None:
    """Every question has a skill of its own and, apart from that, a speaker of its own."""

    def one_speaker(rng: Random, task: str, own: int, ease: float) -> list[int]:
        return [own if rng.random() < 0.9 else rng.randrange(3) for _ in range(4)]

    naive = corrected = 0
    for trial in range(60):
        some = make(Random(trial), one_speaker)
        rng = Random(1000 + trial)
        of = {question: rng.choice(["recall", "reckon"]) for question in some.questions}
        found = skill_association(
            some, label(some, lambda one, at, who, of=of: of[one.question]), "x"
        )
        assert found.chi_square is not None
        assert found.p is not None
        naive += found.chi_square > 5.99
        corrected += found.p < 0.05
    assert naive > 30
    assert corrected <= 0.1 * 60


def test_shares_are_those_that_were_written() -> None:
    some = method_answers(
        [answer((0, 0, 1), 1), answer((2, 1), 0, seed=1), answer((1,), 0, question="q1", task="b")]
    )
    found = speaker_shares(some)
    assert [one.value for one in found.overall.of_patches] == pytest.approx([2 / 6, 3 / 6, 1 / 6])
    assert [one.group for one in found.by_position] == ["1", "2", "3"]
    assert found.by_position[0].of_tokens[1].value == pytest.approx(1 / 3)
    assert {one.group: one.patches for one in found.by_task} == {"sums": 5, "b": 1}
    assert found.by_category[1].of_tokens[1] == Ratio(1.0, pytest.approx(0.2065, abs=1e-3), 1.0, 1)


def test_signs_of_a_broken_team_are_named_with_their_tasks() -> None:
    def verdicts(some: MethodAnswers) -> dict[str, str]:
        return {one.name: one.verdict for one in failure_signs(some, speaker_shares(some))}

    healthy = make(Random(0), evenly)
    assert set(verdicts(healthy).values()) == {"no"}
    alone = method_answers([answer((0,) * 4, 1, question=f"q{n}") for n in range(30)])
    assert verdicts(alone)["base dominates"] == "yes"
    wild = method_answers([answer((0, 1, 2, 0, 2, 1), 1, question=f"q{n}") for n in range(30)])
    assert verdicts(wild)["excessive switching"] == "yes"
    even = (0.33, 0.33, 0.34)
    unsure = [answer((0, 0, 1), 1, question=f"q{n}", probabilities=even) for n in range(30)]
    assert verdicts(method_answers(unsure))["near-uniform switcher"] == "yes"
    *_, sign = failure_signs(method_answers(unsure), speaker_shares(method_answers(unsure)))
    assert "of the others: aligned wrote nothing, since top-p leaves out" in sign.means
    mixed = method_answers(
        [answer((0, 0), 1, question=f"q{n}") for n in range(9)]
        + [answer((2, 1, 1), 1, question=f"q{n}", task="names") for n in range(9)]
    )
    dominates = next(
        s for s in failure_signs(mixed, speaker_shares(mixed)) if s.name == "base dominates"
    )
    assert (dominates.verdict, dominates.tasks) == ("no", ("sums",))


def test_how_a_switcher_decides() -> None:
    some = method_answers(
        [answer((0, 1), 1), answer((0, 0), 1, question="q1", probabilities=(1.0, 0.0, 0.0))]
    )
    found = switcher_stats(some)
    assert found.overall is not None
    assert found.overall.followed.value == 0.75
    assert found.by_position[1].followed.value == 0.5
    assert found.overall.entropy.value == pytest.approx(0.8174 / 2, abs=1e-3)
    assert found.switches.value == 0.5
    fixed = method_answers([answer((0, 1), 1, probabilities=None)])
    assert switcher_stats(fixed).overall is None
    assert len(failure_signs(fixed, speaker_shares(fixed))) == 3
