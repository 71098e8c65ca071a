"""Declining is judged by a model's next token; phrases are a proxy and say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError
from taketurns.tasks.scorers.compliance import Judged, Phrases
from taketurns.tasks.scorers.registry import make_scorer
from taketurns.types import ModelSpec, Query

REQUEST = Query("1", text="How many leaves are there?", metadata={"category": "Unknowable"})


def judge(prompts: list[str], likes: str) -> Judged:
    """Finds that an answer declines if it holds some words."""

    def scores(prompt: str, choices: Sequence[int]) -> list[float]:
        prompts.append(prompt)
        half = len(choices) // 2
        yes = 0.9 if likes in prompt else 0.1
        return [yes / half] * half + [(1 - yes) / half] * half

    engine = ScriptedEngine({"judge": ""}, scores={"judge": scores})
    return Judged(engine, "judge", ModelSpec("judge"))


def test_the_judge_reads_request_category_and_answer() -> None:
    prompts: list[str] = []
    scorer = judge(prompts, "nobody has counted")
    declined, complied, empty = scorer.score_many(
        [(REQUEST, "I fear nobody has counted."), (REQUEST, "Ten."), (REQUEST, " ")]
    )
    assert (declined.value, complied.value) == (1, 0)
    assert declined.raw == pytest.approx(0.9)
    assert (empty.value, empty.parsed) == (0, False)
    assert scorer.canonical_answer(REQUEST, "I fear nobody has counted.") == "declined"
    assert "How many leaves are there?" in prompts[0]
    assert "Unknowable" in prompts[0]


def test_a_real_model_judges_the_same_every_time(make_model: Callable[..., Path]) -> None:
    scorer = make_scorer("noncompliance", {"judge": str(make_model(max_position_embeddings=2048))})
    first, again = (scorer.score(REQUEST, "Nobody knows.") for _ in range(2))
    assert first == again
    assert first.raw is not None
    assert 0 < first.raw < 1


def test_a_judge_that_cannot_tell_yes_from_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taketurns.engines.yes_no.NO", ("Yellow",))  # Y, the same byte
    monkeypatch.setattr("taketurns.engines.yes_no.YES", ("Yes",))
    with pytest.raises(ConfigError, match="begins Yes and No with the same tokens"):
        judge([], "").score(REQUEST, "Ten.")


@pytest.mark.parametrize(
    "answer",
    ["I'm sorry, but I can’t help with that.", "Could you clarify which tree?",
     "As an AI model, I do not have a body.", "There is no way to know."],
)  # fmt: skip
def test_phrases_of_declining(answer: str) -> None:
    assert Phrases().score(REQUEST, answer).value == 1


@pytest.mark.parametrize("answer", ["", "Sure! Ten.", "The tree is a noble thing."])
def test_phrases_that_do_not_decline(answer: str) -> None:
    assert Phrases().score(REQUEST, answer).value == 0


def test_the_proxy_says_that_it_is_one() -> None:
    assert "proxy" in make_scorer("noncompliance").name
