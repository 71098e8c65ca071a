"""Numbers and expressions are compared by their value, not by their letters."""

from __future__ import annotations

import threading

import pytest

from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.types import Query

RIGHT = [
    ("1/2", r"\boxed{\frac{1}{2}}"),
    ("-5", "The answer is -5."),
    ("7", "The answer is 3. Wait, no: the answer is 7."),
    ("1000", "1,000"),
    ("18", "She makes $18 every day.\n#### 18"),
    ("20", "20%"),
    ("0.2", "20%"),
    (r"20 \%", "0.2"),
    (r"\dfrac38", r"\frac{3}{8}"),
    ("x^2 + 12x + 35", r"The product is \boxed{35 + 12x + x^2}."),
    (r"20\text{ miles}", "20 miles"),
    (r"60^\circ", "60"),
    (r"\text{A}", "A"),
    ("1,2", "2,1"),
    (r"[4,\infty)", r"$[4,\infty)$"),
    (r"\phantom{09}", r"\boxed{\phantom{09}}"),
    (r"3 - \sqrt3", r"\boxed{3-\sqrt{3}}"),
    ("4", r"\boxed{x = 4}"),
    ("2x-8", "f(x) = 2x-8"),
    ("180", "The average speed is 180 km/h"),
    ("3000000", "The answer is 3 million."),
    ("16", r"\boxed{2^4}"),
    ("150", "So the answer is 150 pennies, because 10*10=100 and 10*5=50."),
    ("18", "The answer is 16 - 3 - 4 = 9, times 2 = $18 per day."),
    ("10", "**Answer:**\n\n10"),
    ("7", "Answer: Let us think step by step.\n3 + 4 = 7\nSo there are 7."),
    ("7", "The solution is to add 3 and 4, which makes 7"),
    ("10", r"The final answer is: $\boxed{10}$. I hope it is correct."),
    ("8", r"First \boxed{3}, but in the end \boxed{8}"),
]
WRONG = [
    ("5", "5 or 6"),
    ("5", "The answer is 5 or 6"),
    ("1,2", "12"),
    ("0.2", "0.2%"),
    ("3", "3 million"),
    ("2", r"2\pi"),
    ("2", r"\boxed{2\pi}"),
    ("5", r"\boxed{5x}"),
    (r"[4,\infty)", r"(4,\infty)"),
    (r"\sin x", r"\boxed{\cos x}"),
    ("7", "7 apples, 3 pears"),
    ("10", "The answer is not 10"),
    ("10", "I counted 10, but the answer is unknown."),
    ("2", r"\boxed{9^{9^{9^{9}}}}"),
    ("2", r"\boxed{1000000!}"),
]


def score(gold: str, answer: str) -> float | None:
    return Mathematics().score(Query("1", text="?", reference=gold), answer).value


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_what_is_equal_scores_full(gold: str, answer: str) -> None:
    assert score(gold, answer) == 1


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_what_is_not_equal_scores_nothing(gold: str, answer: str) -> None:
    assert score(gold, answer) == 0


def test_a_text_without_a_number_is_a_parse_failure_not_just_wrong() -> None:
    found = Mathematics().score(Query("1", text="?", reference="5"), "I cannot say.")
    assert found.value == 0
    assert not found.parsed
    wrong = Mathematics().score(Query("1", text="?", reference="5"), "It is 6.")
    assert (wrong.value, wrong.parsed, wrong.answer) == (0, True, "6")


def test_it_works_off_the_main_thread_where_no_alarm_can_ring() -> None:
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(score("x+1", r"\boxed{1+x}")))
    thread.start()
    thread.join()
    assert found == [1]
