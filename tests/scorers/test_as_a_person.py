"""Answers as a person reads them: in mathematics, among options, and for names.

Each line of a table is one kind of wording, its right values and its wrong ones.
"""

from __future__ import annotations

import pytest

from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.closed import Closed
from taketurns.tasks.scorers.compliance import Phrases
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query

THOUGHT = "<think>\nIt may be 7. The answer is 7. \\boxed{7}\n</think>\n"

EQUAL: dict[str, list[tuple[str, str]]] = {
    "mixed numbers": [
        ("1.5", r"\boxed{1\frac{1}{2}}"), ("2.5", r"2\frac12"), (r"5\frac12", "5 1/2"),
        ("5 1/2", r"5\frac12"), (r"5\dfrac{1}{2}", "5.5"), (r"5\tfrac12", "11/2"),
        (r"-1\frac12", "-1.5"), ("-1.5", r"-1\frac{1}{2}"), ("1.5", r"1\frac{1}{2} cups"),
        ("1.5", "The answer is 1 1/2 cups"), ("1.5", r"The answer is $1\frac{1}{2}$ cups."),
        ("2.5", "2½"), ("0.5", "½"), ("2.5", "2 ½"), ("1/2", r"\cfrac{1}{2}"),
    ],
    "powers and factorials": [
        ("1024", "2^{10}"), ("1024", r"\boxed{2^{10}}"), ("1024", "2^10"), ("1024", "2**10"),
        ("8", "2³"), ("120", "5!"), ("120", r"\boxed{5!}"), ("120", "The answer is 5!"),
        ("5", "The answer is 5!"), ("1024", "The answer is $2^{10}$ bytes."), ("n!", "n!"),
    ],
    "scientific notation": [
        (r"3\times10^{8}", "3e8"), ("3e8", r"3\times10^{8}"), ("3e8", r"$3\cdot 10^8$"),
        ("300000000", "3 x 10^8"), ("3e8", "3*10^8"), ("3e8", "3×10⁸"), ("3e8", "3E+08"),
        ("0.00012", r"1.2\times 10^{-4}"), ("0.00012", "1.2e-4"), ("300000000", "3 x 10^8 m/s"),
    ],
    "thousands": [
        ("1000000", "1 000 000"), ("1000000", r"1\,000\,000"), ("1000", "1{,}000"),
        ("1000000", "1\u202f000\u202f000"),
    ],
    "bases": [
        ("1010_2", "1010_2"), ("1010_2", r"\boxed{1010_{2}}"), ("1010_2", "1010₂"),
        ("1010_2", "1010 base 2"), ("1010_2", "It is (1010)_2."), ("1010_2", "1010"),
        ("1010", "1010_2"), ("2A3_{16}", "The answer is $2a3_{16}$."), ("-11_2", "-11_2"),
    ],
    "intervals": [
        (r"(2,\infty)", "x>2"), ("x>2", r"(2,\infty)"), ("x>2", r"The solution is $(2,\infty)$"),
        (r"[2,\infty)", r"x \ge 2"), (r"x\geq 2", r"[2,\infty)"), (r"(-\infty,3)", "x<3"),
        (r"(1,3]", r"1<x\le 3"), ("1<x<3", "(1,3)"), ("(1,3)", "3 > x > 1"), ("x>2", "2<x"),
        (r"(2,\infty)", r"x\in(2,\infty)"), (r"(2,\infty)", r"\{x \mid x > 2\}"),
        (r"(-\infty,1)\cup(3,\infty)", r"x<1\text{ or }x>3"),
        (r"x<1\text{ or }x>3", r"(-\infty,1)\cup(3,\infty)"),
    ],
    "pairs and sets": [
        (r"\{1,2\}", r"\{2,1\}"), ("(1,2)", "(1, 2)"), (r"\{1,2\}", "2, 1"), ("1,2", "2,1"),
    ],
    "emphasis": [
        ("3", "*3*"), ("3", "_3_"), ("3", "***3***"), ("3", "__3__"), ("3", "The answer is *3*."),
        ("-3", "***-3***"), ("3", r"The answer is \textbf{3}."), ("3", r"\boxed{\mathbf{3}}"),
    ],
    "thinking": [
        ("42", f"{THOUGHT}42"), ("42", "The answer is 7</think>42"), ("42", "<answer>42</answer>"),
    ],
    "a formula alone is worked out": [("7", "3 + 4"), ("-8", "(-2)^3"), ("9", r"3 \times 3")],
}  # fmt: skip
UNEQUAL: dict[str, list[tuple[str, str]]] = {
    "mixed numbers": [
        ("5.5", r"\boxed{1\frac{1}{2}}"), ("11/2", r"1\frac12"), ("21/2", "2 1/2"), ("2", "2½"),
    ],
    "powers and factorials": [("10", "2^{10}"), ("2", "2^{10}"), ("5", "5!"), ("n", "n!")],
    "scientific notation": [("3", "3e8"), ("8", r"3\times10^8"), ("3e8", "3"), ("3e8", "8")],
    "bases": [("1010_2", "1010_3"), ("1010_2", "10"), ("10", "1010_2"), ("11_2", "-11_2")],
    "intervals": [
        (r"(2,\infty)", r"x\ge 2"), ("x>2", r"[2,\infty)"), ("x>2", "x<2"), ("x>2", "2"),
        ("(1,3)", "[1,3]"), ("x>2", "y>2"), ("(1,3)", r"1\le x<3"),
    ],
    "pairs and sets": [
        (r"\{2,1\}", "(2,1)"), (r"\{1,2\}", "(2,1)"), ("(2,1)", r"\{2,1\}"), ("(2,1)", "(1,2)"),
        (r"\{1,2\}", "(1,2)"), ("(2,1)", r"\{1,2\}"),
    ],
    "thinking": [
        ("7", f"{THOUGHT}42"), ("7", "<think>The answer is 7"), ("7", THOUGHT),
        ("7", "The answer is 7</think>42"),
    ],
    "two offered": [("6", "5 or 6"), ("6", "5, 6"), ("6", "I say 5 or 6")],
}  # fmt: skip


def pairs(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    return [pair for pairs in table.values() for pair in pairs]


@pytest.mark.parametrize(("gold", "answer"), pairs(EQUAL))
def test_equal(gold: str, answer: str) -> None:
    assert Mathematics().score(Query("1", text="?", reference=gold), answer).value == 1


@pytest.mark.parametrize(("gold", "answer"), pairs(UNEQUAL))
def test_unequal(gold: str, answer: str) -> None:
    assert Mathematics().score(Query("1", text="?", reference=gold), answer).value == 0


FRUIT = {"A": "apple", "B": "pear", "C": "plum", "D": "fig"}
TEN = {key: f"thing {key}{key}" for key in "ABCDEFGHIJ"}
TWELVE = {key: f"thing {key}{key}" for key in "ABCDEFGHIJKL"}
WEIGHTS = {"1": "2.5 kg", "2": "3.5 kg", "3": "4 kg", "4": "12 kg"}
TENS = {"1": "10", "2": "20", "3": "2"}
SEEDS = {"1": "seeds", "2": "pollen", "3": "light"}
YES, TRUE = {"A": "Yes", "B": "No"}, {"A": "True", "B": "False"}
LENGTHS = {"A": "4d", "B": "2d", "C": "d", "D": "1/2d"}

CHOSEN: list[tuple[dict[str, str], str | None, list[str]]] = [
    (TEN, None, ["ANSWER: I don't know", "Answer: I don't know.", "I'm not sure.", "I can't say",
                 "A difficult question.", "Answer: A hard one.", "The answer is A mystery",
                 "So am I", "I will not say."]),
    (TEN, "I", ["I", "(I)", "The answer is I.", "I. thing II", "**I**", "*I*", "Answer: I",
                "The answer is I, because it fits", "Option I seems best."]),
    (TEN, "J", ["J", "The answer is J."]),
    (TWELVE, "K", ["K", "k", "The answer is K"]),
    (FRUIT, None, ["either A or B", "The answer is either A or B.", "It is either A or B",
                   "both A and B", "A/B", "A & B", "The answer is A or B", "not B", "Not B.",
                   "The answer is not B.", "It isn't B.", "B is wrong", "B is incorrect.",
                   "I don't know", "It is not the pear.", "<think>The answer is B",
                   "<think>The answer is B</think>", "It is not A, B or C."]),
    (FRUIT, "B", ["*B*", "_B_", "***B***", "**B**", "__B__", "___B___", "*B.*", "**B.** pear",
                  "*Answer:* B", "***Answer:*** *B*", "The answer is *B*.", "The answer is _B_",
                  "The answer is **_B_**", "`B`", "*B) pear*", "_pear_", "<b>B</b>", "B!",
                  r"\boxed{\textbf{B}}", r"\boxed{\text{(B)}}", r"The answer is \textbf{B}."]),
    (FRUIT, "B", ["The correct answer is B, not A.", "Not A, but B", "not A; B.",
                  "The answer is not A but B.", "It's not A. It's B.", "A is wrong, so B.",
                  "A is incorrect. B is correct.", "B is the answer.", "B is correct",
                  "It cannot be A. It must be B.", "Rather than A, B", "I'd go with B.",
                  "It is the pear, not the apple.", "It is not the apple, it is the pear.",
                  "Not the apple, but the pear.", "I'm not sure, but I think it's B.",
                  "I am not certain, but B", "Apple is wrong. The pear.", "Sure! B"]),
    (FRUIT, "B", ["<think>A? B? The answer is A.</think>B", "The answer is A.</think>B",
                  "<thinking>A</thinking>B", "<reasoning>\nAnswer: A\n</reasoning>\nB",
                  "◁think▷Answer: A◁/think▷B", "[THINK]Answer: A[/THINK]B",
                  "<|channel>thought\nA<channel|>B", "<answer>B</answer>",
                  "<|START_THINKING|>Answer: A<|END_THINKING|>B", "B<think>or A</think>",
                  "<|channel|>analysis<|message|>A<|channel|>final<|message|>B"]),
    (WEIGHTS, "2", ["The answer is 3.5 kilograms.", "3.5kg", "3.5 kg", "The answer is 3.5 kg."]),
    (WEIGHTS, "3", ["The answer is 4 kilograms.", "4 kg", "The answer is 3.", "3) 4 kg", "3"]),
    (WEIGHTS, "4", ["12 kilograms", "It weighs 12 kg.", "The answer is 4"]),
    (WEIGHTS, None, ["The answer is 3.5 grams.", "4 litres"]),
    (TENS, None, ["The answer is 2", "2"]),
    (TENS, "2", ["(2)", "2) 20", "20", "Option 2"]),
    (SEEDS, "2", ["I think it is 2.", "It is not 1, it is 2", "I would choose 2", "Not 1, but 2."]),
    (LENGTHS, "D", ["D", "**D.** 1/2d", "The answer is D."]),
    (LENGTHS, "C", ["d", "The answer is d."]),
    (YES, "A", ["Yes. No doubt about it.", "Yes, no question.", "The answer is yes.", "A. Yes",
                "Yes.\nNo star is cold."]),
    (YES, "B", ["No. Yes, I am sure.", "No, it does not.", "Definitely no.", "B. No",
                "The answer is: No, because yes would be odd."]),
    (YES, None, ["Yes or no?", "Yes and no.", "I don't know"]),
    (TRUE, "B", ["The statement is false.", "False."]),
    (TRUE, None, ["not true"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "key", "answer"),
    [(options, key, answer) for options, key, answers in CHOSEN for answer in answers],
)
def test_the_option_that_is_chosen(options: dict[str, str], key: str | None, answer: str) -> None:
    query = Query("1", text="?", reference=next(iter(options)), metadata={"choices": options})
    score = Choice().score(query, answer)
    assert (score.answer, score.parsed) == (key, key is not None)


PARIS = ["Paris"]
NAMED = [
    *((PARIS, text) for text in [
      "I'm not sure, but I believe it is Paris.", "It is not Lyon, it is Paris.",
      "I am not sure, but Paris.", "It's not Lyon but Paris.", "Not Lyon. Paris.",
      "It is Paris, not Lyon.", "Rather than Lyon, Paris.", "Instead of Lyon, it is Paris",
      "I do not know for sure, but Paris is my guess", "The answer is not Lyon; it's Paris.",
      "If I'm not mistaken, it is Paris.", "It is not only the largest city, it is Paris",
      "It is none other than Paris.", "Not surprisingly, Paris", "It's Paris if I'm not wrong.",
      "I think, though I can't be certain, that it is Paris", "*Paris*", "It's _Paris_.",
      "<think>Lyon. The answer is Lyon.</think>Paris"]),
    (["J. K. Rowling"], "J.K. Rowling"), (["J. K. Rowling"], "JK Rowling"),
    (["J.K. Rowling"], "J. K. Rowling"), (["JK Rowling"], "It is J. K. Rowling."),
    (["J. K. Rowling"], "J K Rowling"), (["George R. R. Martin"], "George R.R. Martin"),
    (["George R.R. Martin"], "George RR Martin"), (["U.S.A."], "the U. S. A."),
    (["A. A. Milne"], "A.A. Milne"), (["vitamin C"], "It is vitamin C. A lack of it is harmful."),
    (["Washington, D.C."], "Washington D. C."), (["Beyoncé"], "Beyonce"),
    (["Saint-Étienne"], "Saint-Etienne"), (["Not Without My Daughter"], "Not Without My Daughter"),
    (["Instead of Love"], "It is Instead of Love"),
]  # fmt: skip
UNNAMED = [
    *((PARIS, text) for text in [
      "It is Lyon, not Paris.", "Not Paris.", "It is not Paris.", "It isn't Paris.",
      "It is not Paris, it is Lyon.", "Lyon rather than Paris", "Rather than Paris, Lyon.",
      "<think>Paris</think>Lyon", "<think>Paris", "I don't think it is Paris.",
      "Instead of Paris, it is Lyon", "It wasn't Paris, it was Lyon", "It cannot be Paris.",
      "It is neither Paris nor Lyon.", "Lyon, never Paris", "It is not Lyon, Nice, or Paris.",
      "Paris is not the capital. Lyon is.", "Paris is wrong. Lyon."]),
    (["K. Rowling"], "J.K. Rowlings"),
]  # fmt: skip


@pytest.mark.parametrize(("aliases", "answer"), NAMED)
def test_a_name_that_is_said(aliases: list[str], answer: str) -> None:
    assert Alias().score(Query("1", text="?", reference=aliases), answer).value == 1


@pytest.mark.parametrize(("aliases", "answer"), UNNAMED)
def test_a_name_that_is_denied_or_thought_of(aliases: list[str], answer: str) -> None:
    assert Alias().score(Query("1", text="?", reference=aliases), answer).value == 0


@pytest.mark.parametrize(
    "scorer", [Exact(), TokenF1(), Closed(), Alias()], ids=lambda one: one.name
)
def test_thinking_is_no_answer_for_any_scorer(scorer: Scorer) -> None:
    query = Query("1", text="?", reference="salt")
    assert scorer.score(query, "<think>The answer is wax.</think>salt").value == 1
    assert scorer.score(query, "<think>The answer is salt.</think>wax").value == 0
    assert not scorer.score(query, "<think>The answer is salt.").parsed
    assert scorer.canonical_answer(query, "<think>wax</think>salt") == scorer.canonical_answer(
        query, "salt"
    )


def test_a_refusal_that_was_only_thought_is_none() -> None:
    query = Query("1", text="?")
    assert Phrases().score(query, "<think>I cannot do that.</think>Sure, here it is.").value == 0
    assert Phrases().score(query, "<think>Sure.</think>I cannot do that.").value == 1
