"""Which answers are learned: the good ones, each wording once, and a sentence where none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taketurns.errors import DataError
from taketurns.pocket import TASKS
from taketurns.tasks.scored import scored_task
from taketurns.tasks.scorers.reward import Reward
from taketurns.training.distillation.filtering import filter_answers
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.distillation.settings import FilterConfig

RECALL = [TASKS["recall"]]
RATED = [scored_task("rated", "chat", {}, Reward("a/reward-model"))]

Made = Callable[..., TeamAnswer]


def ids(kept: Any) -> list[str]:
    return [answer.id for answer in kept.answers]


def test_right_answers_are_kept_and_a_wording_is_kept_once(answer: Made) -> None:
    answers = [
        answer(0, (0, " 7.")),
        answer(1, (1, " 7.")),
        answer(2, (0, " 9."), utility=0.5),
        answer(3, (0, " the answer is 7.")),
        answer(10, (0, " 7."), utility=None, why="too long"),
    ]
    kept = filter_answers(answers, RECALL, FilterConfig())
    assert ids(kept) == ["q0#0", "q0#3"]
    assert kept.report["by_task"] == {"recall": {"answers": 5, "kept": 2}}
    assert (kept.report["unscored"], kept.report["questions"]) == (1, 1)
    assert ids(filter_answers(answers, RECALL, FilterConfig(min_score=0.5))) == [
        "q0#0",
        "q0#2",
        "q0#3",
    ]


def test_a_reward_has_no_right_or_wrong_so_the_best_of_a_question_is_kept(answer: Made) -> None:
    rewards = {0: 0.2, 1: 0.3, 10: 0.9, 11: 0.8, 20: 0.4, 21: 0.4}
    answers = [
        answer(n, (0, f" {n}."), utility=reward, task="rated") for n, reward in rewards.items()
    ]
    assert ids(filter_answers(answers, RATED, FilterConfig())) == ["q0#1", "q1#0"]
    with pytest.raises(DataError, match=r"the best score is 0\.9 and --min-score is 1"):
        filter_answers(answers, RATED, FilterConfig(keep="score"))
    alike = [answer(n, utility=0.5, task="rated") for n in (0, 1)]
    with pytest.raises(DataError, match="no question has answers with different scores"):
        filter_answers(alike, RATED, FilterConfig())


def test_what_an_answer_is_kept_for_does_not_depend_on_the_order_of_the_file(answer: Made) -> None:
    answers = [answer(n, (0, f" {n % 3}."), utility=float(n % 2)) for n in range(25)]
    there, back = (
        filter_answers(part, RECALL, FilterConfig()) for part in (answers, answers[::-1])
    )
    assert there == back


def test_nothing_to_keep_is_one_sentence(answer: Made) -> None:
    with pytest.raises(DataError, match=r"the best score is 0\.5"):
        filter_answers([answer(0, utility=0.5), answer(1, utility=0.0)], RECALL, FilterConfig())
    with pytest.raises(
        DataError, match="none of 1 answers could be scored; the first one: too long"
    ):
        filter_answers([answer(0, utility=None, why="too long")], RECALL, FilterConfig())
    with pytest.raises(DataError, match="the team has written none"):
        filter_answers([], RECALL, FilterConfig())
