"""Options are chosen by the data's own keys, or by their words."""

from __future__ import annotations

import pytest

from taketurns.errors import DataError
from taketurns.tasks.scorers.choice import Choice
from taketurns.types import Query

FIVE = {"A": "the mass", "B": "the force on the acorn", "C": "banana", "D": "12", "E": "1"}
DIGITS = {"1": "iron", "2": "salt", "3": "wax", "4": "oil"}
STANCES = {"A": "Support", "B": "Oppose", "C": "Either support or oppose"}
WORDS = {"valid": "valid", "invalid": "invalid"}
FRUIT = {"A": "5 apples", "B": "5 pears", "C": "0.5", "D": "1,000"}
TWELVE = {key: f"option number {key}" for key in "ABCDEFGHIJKL"}

RIGHT = [
    *((FIVE, "C", text) for text in ["C", "c", "C.", "(C)", "C)", "C:", "**C**", "[C]", "C, banana",
      "C. banana", "banana", "banana.", "Answer: C", "**Answer:** C", "The answer is c.",
      "The answer is (C) banana.", "The answer is a banana.", r"\boxed{C}", r"\boxed{\text{C}}",
      "Option C is right because of the mass.", "After all this, C", "Let us think. So\nC",
      "The answer is C because A is wrong", "I weighed the mass. The correct option is C, banana.",
      "The answer isn't A. I choose (C)"]),
    (FIVE, "D", "12"),
    (FIVE, "E", "The answer is 1."),
    (FIVE, "A", "The answer is A because it is."),
    (TWELVE, "I", "The answer is I."),
    (TWELVE, "A", "A, I think."),
    (TWELVE, "B", "A is wrong. The answer is option number B"),
    *((DIGITS, "2", text) for text in ["2", "(2)", "2) salt", "salt", "The answer is 2."]),
    (FRUIT, "B", "5 pears"),
    (FRUIT, "C", "The answer is 1/2"),
    (FRUIT, "D", "1000"),
    (FIVE, "B", "A) the mass: it stays.\nB) the force: it does not.\nSo it must be (B)"),
    (FIVE, "B", "It is the force on the acorn, not the mass."),
    (STANCES, "C", "The answer is either support or oppose"),
    (STANCES, "B", "I oppose it."),
    (WORDS, "invalid", "The argument is invalid."),
    (WORDS, "valid", "The answer is valid."),
]  # fmt: skip
WRONG = [
    (FIVE, "A", "banana."),
    (FIVE, "A", "A) the mass: it stays.\nB) the force: it does not.\nSo it must be (B)"),
    (FRUIT, "A", "5 pears"),
    (FRUIT, "A", "5"),
    (FIVE, "A", "The answer is a banana."),
    (FIVE, "E", "12"),
    (FIVE, "A", "It is the force on the acorn, not the mass."),
    (FIVE, "A", "A or B"),
    (FIVE, "A", "A, B"),
    (FIVE, "A", "The answer is A and B"),
    (TWELVE, "I", "I think the answer is B."),
    (DIGITS, "2", "B"),
    (DIGITS, "1", "The answer is 12"),
    (STANCES, "B", "The answer is either support or oppose"),
    (WORDS, "valid", "The argument is invalid."),
]


def score(choices: dict[str, str], gold: str, answer: str) -> float | None:
    query = Query("1", text="?", reference=gold, metadata={"choices": choices})
    return Choice().score(query, answer).value


@pytest.mark.parametrize(("choices", "gold", "answer"), RIGHT)
def test_the_option_that_is_meant(choices: dict[str, str], gold: str, answer: str) -> None:
    assert score(choices, gold, answer) == 1


@pytest.mark.parametrize(("choices", "gold", "answer"), WRONG)
def test_no_option_by_accident(choices: dict[str, str], gold: str, answer: str) -> None:
    assert score(choices, gold, answer) == 0


def test_a_text_that_chooses_none_is_a_parse_failure() -> None:
    query = Query("1", text="?", reference="A", metadata={"choices": FIVE})
    assert not Choice().score(query, "Who can say? Not I.").parsed
    assert Choice().score(query, "B").parsed


@pytest.mark.parametrize(
    ("metadata", "gold", "complaint"),
    [
        ({}, "A", "choices must map"),
        ({"choices": {"A": "x"}}, "A", "at least two"),
        ({"choices": {"A": "x", "B": 2}}, "A", "to a text"),
        ({"choices": {"A": "x", "B": "y"}}, "C", r"must be a key of choices \(A, B\), not 'C'"),
    ],
)
def test_data_that_cannot_be_scored_is_refused(metadata: dict, gold: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        Choice().check(Query("1", text="?", reference=gold, metadata=metadata))
