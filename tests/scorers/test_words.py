"""Short answers in words."""

from __future__ import annotations

import pytest

from taketurns.errors import DataError
from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query

ITALY = '["Italy", "Italian Republic", "IT"]'

RIGHT = [
    (Alias(), ITALY, "IT"),
    (Alias(), ITALY, "It lies in the Italian Republic."),
    (Alias(), ["Avarua"], "The capital is Avarua."),
    (Alias(), ["U.S."], "the US"),
    (Alias(), ["sky blue"], "**sky blue**"),
    (Alias(), ["John F. Kennedy"], "The answer is John F. Kennedy."),
    (Alias(), '["princesse de Canino, X", "Y"]', "princesse de Canino, X"),
    (TokenF1(), "hoods", "The answer is hoods."),
    (TokenF1(), "The Winter Soldier", "Winter Soldier"),
    (TokenF1(), '"boots" theory', r'\boxed{"boots" theory}'),
    (TokenF1(), "J. T. Blatty", "The answer is J. T. Blatty."),
    (TokenF1(), "2019 LSU vs. Alabama game", "The answer is 2019 LSU vs. Alabama game."),
    (Exact(), ") )", "))"),
    (Exact(), ") )", "The answer is ) )."),
    (Exact(), "a b c", "a, b, c"),
    (Exact(), "a b c", "The answer is a b c."),
]
WRONG = [
    (Alias(), ITALY, "I think it is France"),
    (Alias(), '["princesse de Canino, X", "Y"]', "X"),
    (Alias(), ["Paris"], "The answer is London, not Paris."),
    (Alias(), ["Paris"], "Parisian"),
    (TokenF1(), "-5", "5"),
    (TokenF1(), "3.5", "35"),
    (Exact(), ") )", ") ]"),
    (Exact(), "3.5", "35"),
    (Exact(), "-5", "5"),
    (Exact(), "a b c", "a c b"),
]


def score(scorer: Scorer, gold: object, answer: str, question: str = "?") -> float | None:
    return scorer.score(Query("1", text=question, reference=gold), answer).value


@pytest.mark.parametrize(("scorer", "gold", "answer"), RIGHT)
def test_what_is_right_scores_full(scorer: Scorer, gold: object, answer: str) -> None:
    assert score(scorer, gold, answer) == 1


@pytest.mark.parametrize(("scorer", "gold", "answer"), WRONG)
def test_what_is_wrong_scores_nothing(scorer: Scorer, gold: object, answer: str) -> None:
    assert score(scorer, gold, answer) == 0


def test_repeating_the_question_is_no_answer() -> None:
    question = "What is the capital of Madrid Province?"
    assert score(Alias(), ["Madrid"], "The capital of Madrid Province is unknown.", question) == 0
    assert score(Alias(), ["Madrid"], "The capital of Madrid Province is Madrid.", question) == 1


def test_f1_is_of_tokens() -> None:
    # two of three tokens each way, articles left out
    assert score(TokenF1(), "a red old barn", "the red new barn") == pytest.approx(2 / 3)


@pytest.mark.parametrize("reference", [None, "", [], [1], {"a": 1}, '["unfinished'])
def test_a_reference_that_is_no_text_is_refused(reference: object) -> None:
    for scorer in (Alias(), TokenF1(), Exact()):
        with pytest.raises(DataError, match="the reference "):
            scorer.check(Query("1", text="?", reference=reference))
