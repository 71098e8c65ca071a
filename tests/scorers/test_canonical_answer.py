"""What answers come to when votes are counted: the same for those that say the same, whatever the
reference is."""

from __future__ import annotations

from typing import Any

import pytest

from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.calibration import Sampled, Stated
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.closed import Closed
from taketurns.tasks.scorers.compliance import Phrases
from taketurns.tasks.scorers.diversity import Diversity
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.moco import Moco
from taketurns.tasks.scorers.reward import Reward
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query

MATH, CHOICE = Mathematics(), Choice()
CHOICES = {"A": "iron", "B": "salt", "C": "wax"}

# Each line of answers says one thing, and no two lines the same.
SAME: list[tuple[Scorer, list[list[str]]]] = [
    (Alias(), [["London", "It is London.", "The answer is **London**. It lies on the Thames.",
                "london", "The answer is London, not Paris."],
               ["Paris", "\\boxed{Paris}", "it's Paris"], ["New London"], ["-5"], ["5"]]),
    (TokenF1(), [["The Winter Soldier", "winter soldier", "Answer: Winter Soldier"],
                 ["Not Without My Daughter", "It is Not Without My Daughter"], ["3.5"], ["35"]]),
    (Exact(), [["valid", "It is valid", "Thinking.\n\nValid.", "The answer is valid."],
               ["invalid"], [") )", "))"], [") ]"], ["-5"], ["5"]]),
    (MATH, [["1/2", "0.5", "The answer is 0.5.", "$\\frac{1}{2}$", "x = 0.5", "It makes 1/2"],
            ["6", "So he has 6 apples left.", "3 + 3 = 6", "$2 + $4 = $6", "\\boxed{6\\text{ m}}"],
            ["60", "Answer: Let us think.\n50 + 10 = 60\nThat is 60."], ["-6"],
            ["x^2+1", "\\boxed{x^2 + 1}", "The derivative is $x^2+1$."], ["x^3+1"], ["2x+1"],
            ["\\sqrt 3", "$\\sqrt 3$"], ["(3, 4)", "The answer is (3,4)"],
            ["The answer is 5 or 6."], ["The answer is 5 or 7."]]),
    (CHOICE, [["A", "(A)", "The answer is iron", "Iron."], ["B", "salt"]]),
    (Closed(), [["6", "6.0", "The answer is 6."], ["valid", "It is valid"], ["2022 Tour"]]),
    (Phrases(), [["I'm sorry.", "I cannot do that.", "That is illegal."],
                 ["Sure!", "Here you are."]]),
    (Stated(CHOICE), [["A, confidence: 80 %", "A. Confidence: 20 %"], ["B, confidence: 80 %"]]),
    (Sampled(CHOICE), [["A", "iron"], ["B", "salt"]]),
    (Moco("exact_match"), [["The answer is London", "london"], ["Paris"]]),
    (Moco("multiple_choice"), [["A", "iron"], ["B", "salt"]]),
]  # fmt: skip


def asked(scorer: Scorer, reference: Any = None) -> Query:
    chooses = any(part in scorer.name for part in ("choice", "calibration"))
    metadata = {"choices": CHOICES} if chooses else {}
    return Query("1", text="?", reference=reference, metadata=metadata)


@pytest.mark.parametrize(("scorer", "lines"), SAME, ids=lambda one: getattr(one, "name", ""))
def test_answers_that_say_the_same_are_one_and_others_are_not(
    scorer: Scorer, lines: list[list[str]]
) -> None:
    said = [{scorer.canonical_answer(asked(scorer), answer) for answer in line} for line in lines]
    assert all(len(one) == 1 and None not in one for one in said), said
    assert len(set().union(*said)) == len(lines), said


@pytest.mark.parametrize(("scorer", "lines"), SAME, ids=lambda one: getattr(one, "name", ""))
def test_the_reference_plays_no_part(scorer: Scorer, lines: list[list[str]]) -> None:
    for answer in (line[0] for line in lines):
        blind = scorer.canonical_answer(asked(scorer), answer)
        for reference in ("A", "B", "6", "London", "x^2+1", "wrong"):
            assert scorer.canonical_answer(asked(scorer, reference), answer) == blind


@pytest.mark.parametrize(
    "scorer", [*(scorer for scorer, _ in SAME), Reward("nowhere")], ids=lambda one: one.name
)
def test_an_empty_answer_says_nothing(scorer: Scorer) -> None:
    assert scorer.canonical_answer(asked(scorer), " \n") is None


def test_texts_that_are_judged_for_themselves_say_nothing_to_be_counted() -> None:
    for scorer in (Reward("nowhere"), Diversity()):
        assert scorer.canonical_answer(asked(scorer), "a story") is None
