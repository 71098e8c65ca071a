"""Every fault of the public scorers, once with the authors' scoring, which has it, and once with
ours, which has not."""

from __future__ import annotations

from typing import Any

import pytest

from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.moco import Moco
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query

MATH, CHOICE, EXACT = Mathematics(), Choice(), Exact()
AUTHORS = {
    "mathematics": Moco("exact_match"),
    "exact": Moco("exact_match"),
    "choice": Moco("multiple_choice"),
    "alias": Moco("f1_match"),
    "f1": Moco("f1_match"),
}
LETTERS = {"A": "an apple", "B": "a pear", "C": "a plum"}
NUMBERS = {"A": "1", "B": "12", "C": "2"}
DIGITS = {"1": "iron", "2": "salt", "3": "wax"}
ALIASES = '["Bleschamp, princesse de Canino", "Alexandrine"]'

# scorer, reference, choices, answer, what ours gives, what theirs gives
FAULTS: dict[str, tuple[Scorer, str, dict[str, str] | None, str, float, float]] = {
    "dropped points make 3.5 equal 35": (MATH, "35", None, "3.5", 0, 1),
    "dropped signs make -5 equal 5": (MATH, "5", None, "-5", 0, 1),
    "dropped strokes make 1/2 equal 12": (MATH, "12", None, "1/2", 0, 1),
    "dropped articles make an empty answer equal A": (EXACT, "A", None, "", 0, 1),
    "and so under F1": (TokenF1(), "A", None, "", 0, 1),
    "a box is cut at the first brace": (MATH, r"\frac{1}{2}", None, r"\boxed{\frac{1}{2}}", 1, 0),
    "so that half an answer is enough": (MATH, "\\frac{1", None, r"\boxed{\frac{1}{7}}", 0, 1),
    "the first answer is taken, not the last": (
        MATH, "7", None, "The answer is 3. No: the answer is 7", 1, 0),
    "a leading minus is eaten": (MATH, "5", None, "The answer is -5", 0, 1),
    "an option's text is sought before a letter": (CHOICE, "B", NUMBERS, "12", 1, 0),
    "even before an explicit letter": (CHOICE, "C", NUMBERS, "Of 1 and 2, the answer is C", 1, 0),
    "banana. is read as A": (CHOICE, "A", LETTERS, "banana.", 0, 1),
    "Answer: C is not read": (CHOICE, "C", LETTERS, "Answer: C", 1, 0),
    "**C** is not read": (CHOICE, "C", LETTERS, "**C**", 1, 0),
    "C: is not read": (CHOICE, "C", LETTERS, "C:", 1, 0),
    "keys are taken for A, B, C": (CHOICE, "2", DIGITS, "The answer is 2", 1, 0),
    "alias lists are split at commas": (Alias(), ALIASES, None, "princesse de Canino", 0, 1),
}  # fmt: skip


def query(reference: str, choices: dict[str, str] | None) -> Query:
    metadata: dict[str, Any] = {"task": "popqa"} | ({"choices": choices} if choices else {})
    return Query("1", text="?", reference=reference, metadata=metadata)


@pytest.mark.parametrize("fault", FAULTS)
def test_ours_is_free_of_it(fault: str) -> None:
    scorer, reference, choices, answer, ours, _ = FAULTS[fault]
    assert scorer.score(query(reference, choices), answer).value == ours


@pytest.mark.parametrize("fault", FAULTS)
def test_theirs_is_reproduced_with_it(fault: str) -> None:
    scorer, reference, choices, answer, _, theirs = FAULTS[fault]
    assert AUTHORS[scorer.name].score(query(reference, choices), answer).value == theirs


def test_their_noncompliance_finds_every_universal_unknown_declined() -> None:
    unknown = Query("1", text="?", metadata={"category": "Universal unknowns"})
    assert Moco("noncompliance").score(unknown, "Certainly: 42.").value == 1
    other = Query("1", text="?", metadata={"category": "Incomplete requests"})
    assert Moco("noncompliance").score(other, "Certainly: 42.").value == 0
    assert Moco("noncompliance").score(other, "As an AI I must ask").value == 1
