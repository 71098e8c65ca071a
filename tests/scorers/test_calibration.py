"""Confidence, stated or sampled, against what was right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.tasks.scorers.calibration import brier, calibration_error
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.types import Query

CHOICES = {"A": "iron", "B": "salt", "C": "wax"}
QUERY = Query("1", text="?", reference="B", metadata={"choices": CHOICES})
STATED = make_scorer("calibration", {"of": "choice"})
SAMPLED = make_scorer("calibration", {"of": "choice", "sampled": True})


def test_being_sure_and_right_is_best_and_sure_and_wrong_worst() -> None:
    said = [
        "B. Confidence: 100%",
        "B. Confidence: 60%",
        "A. Confidence: 60%",
        "A. Confidence: 100%",
    ]
    values = [STATED.score(QUERY, text).value or 0.0 for text in said]
    assert values[0] == 1
    assert values[-1] == 0
    assert values == sorted(values, reverse=True)


def test_the_rest_of_the_confidence_is_spread_over_the_other_options() -> None:
    # right with .6: (.6-1)² + 2 * .2² = .24
    assert STATED.score(QUERY, "B. Confidence: 60%").value == pytest.approx(1 - 0.24 / 2)


@pytest.mark.parametrize(
    "text",
    ["The answer is B. Confidence: 80%", "B (confidence 0.8)", "B. I am 80% sure.",
     "Confidence: 20%. No, wait. The answer is B, confidence = .8"],
)  # fmt: skip
def test_confidence_in_common_wordings(text: str) -> None:
    score = STATED.score(QUERY, text)
    assert (score.confidence, score.raw, score.answer) == (0.8, 1.0, "B")


@pytest.mark.parametrize("text", ["", "The answer is B.", "B. Confidence: 900%"])
def test_no_confidence_is_a_parse_failure(text: str) -> None:
    score = STATED.score(QUERY, text)
    assert (score.value, score.parsed) == (0, False)


def test_sampled_confidence_is_how_many_agree() -> None:
    scores = SAMPLED.score_group(QUERY, ["B", "The answer is B.", "A", "salt"])  # type: ignore[attr-defined]
    assert [score.confidence for score in scores] == [0.75, 0.75, 0.25, 0.75]
    assert [score.raw for score in scores] == [1, 1, 0, 1]
    assert scores[0].value == pytest.approx(1 - (0.25**2 + 0.25**2) / 2)


def test_measures_over_a_run() -> None:
    texts = ["B. Confidence: 90%"] * 9 + ["A. Confidence: 90%"]
    scores = [STATED.score(QUERY, text) for text in texts]
    measures = STATED.measures(scores)  # type: ignore[attr-defined]
    assert measures["accuracy"] == pytest.approx(0.9)
    assert measures["ece"] == pytest.approx(0)
    assert measures["brier"] == pytest.approx(
        2 - 2 * sum(score.value or 0 for score in scores) / len(scores)
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_the_calibration_error_is_zero_to_one(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = zip(*pairs, strict=True)
    assert 0 <= calibration_error(confidences, [float(r) for r in right]) <= 1 + 1e-12
    assert calibration_error([float(r) for r in right], [float(r) for r in right]) == 0


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6))
def test_brier_is_zero_to_two_and_zero_for_certainty(weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    for right in (*range(len(shares)), None):
        assert 0 <= brier(shares, right) <= 2
    assert brier([1.0, *[0.0] * (len(shares) - 1)], 0) == 0
    assert brier([1.0, *[0.0] * (len(shares) - 1)], None) == 2
