"""The same answer again is no variety; different ones are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.errors import UsageError
from taketurns.tasks.scorers.diversity import MEASURES, Diversity
from taketurns.types import Query

QUERY = Query("1", text="Write a line.")
SAME = ["the sea is wide and blue today"] * 3
OTHERS = ["the sea is wide and blue today", "my dog ate seven old hats", "winter came late again"]
LEXICAL = [measure for measure in MEASURES if measure != "embeddings"]


def group(measure: str, answers: list[str], model: str | None = None) -> float:
    scores = Diversity(measure, model).score_group(QUERY, answers)
    return fmean(score.value or 0.0 for score in scores)


@pytest.mark.parametrize("measure", LEXICAL)
def test_repeats_have_none_and_different_answers_much(measure: str) -> None:
    assert group(measure, SAME) <= 1 / 3 + 1e-9
    assert group(measure, OTHERS) > 0.9


def test_self_bleu_of_repeats_is_full() -> None:
    assert group("self-bleu", SAME) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=4, max_size=4), min_size=2, max_size=5))
def test_distinct_is_distinct_n(answers: list[list[str]]) -> None:
    texts = [" ".join(words) for words in answers]
    pairs = [pair for words in answers for pair in pairwise(words)]
    assert group("distinct-2", texts) == pytest.approx(len(set(pairs)) / len(pairs))


def test_embeddings_by_a_real_model(make_model: Callable[..., Path]) -> None:
    model = str(make_model())
    assert group("embeddings", SAME, model) == pytest.approx(0, abs=1e-5)
    assert group("embeddings", OTHERS, model) > 0.001


def test_reference_answers_stand_beside_a_lone_one() -> None:
    referenced = Query("1", text="Write a line.", reference=["the sea is wide and blue today"])
    assert Diversity().score(referenced, "the sea is wide and blue today").value == pytest.approx(0)
    assert (Diversity().score(referenced, "my dog ate seven hats").value or 0) > 0.9


def test_a_lone_answer_has_no_diversity_and_an_empty_one_none() -> None:
    assert Diversity().score(QUERY, "a line").value is None
    empty, *rest = Diversity().score_group(QUERY, ["", "one line", "another verse"])
    assert (empty.value, empty.parsed) == (0, False)
    assert all(score.value for score in rest)


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="measures are self-bleu"):
        Diversity("distinct-9")
    for settings in (("embeddings",), ("self-bleu", "model")):
        with pytest.raises(UsageError, match="setting model for the measure 'embeddings'"):
            Diversity(*settings)
