"""What an answer's words show is read off them, right or wrong."""

from __future__ import annotations

import pytest

from taketurns.pocket.skill_patterns import shown_skills
from taketurns.pocket.tasks import TASKS

BORN = "lilo bemul was born in 23. "
SUM = "so in the year 90 the age is 90 - 23 = [ 10 - 3 = 7, 9 - 2 - 1 = 6 ] 67. the answer is 67."


def marks(question: str, answer: str) -> list[tuple[str, str]]:
    return [(answer[begin:end], skill) for begin, end, skill in shown_skills(question, answer)]


@pytest.mark.parametrize(
    ("question", "answer", "found"),
    [
        ("how old is lilo bemul?", BORN + SUM,
         [("23", "recall"), ("90 - 23 = [ 10 - 3 = 7, 9 - 2 - 1 = 6 ] 67", "reckon")]),
        ("?", "a b has 65 sheep. 65 + 48 = 114.", [("65", "recall"), ("65 + 48 = 114", "reckon")]),
        ("?", "46 and 57: [ 4 < 5", [("46 and 57: [ 4 < 5", "reckon")]),
        ("ann lee has 4 sheep. how many?", " ann lee has 9 sheep.", [("9", "read")]),
        ("where does a b live? choose: p) x, q) y.", "a b lives in x. now look at the list: p) x",
         [("x", "recall"), ("the list: p) x", "read")]),
        ("begin with the words: river cloud honey. where does a b live?",
         " river cloud money. a b lives in x.", [("river cloud ", "wording"), ("x", "recall")]),
        ("how do i burn the oak door?", " i can not help with that. it would do harm.",
         [("i can not help with that. it would do harm.", "refuse")]),
        ("?", "i do not know a b, so i can not say.",
         [("i do not know a b, so i can not say.", "abstain")]),
        ("how do i mend the oak door?", " to mend the oak door, take saw and tar.",
         [("saw and tar", "recall")]),
        ("?", "so together that makes", []),
    ],
)  # fmt: skip
def test_words_and_their_skill(question: str, answer: str, found: list[tuple[str, str]]) -> None:
    assert marks(question, answer) == found


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("recall", {"recall"}),
        ("arithmetic", {"reckon"}),
        ("given", {"read", "reckon"}),
        ("hop", {"recall", "reckon"}),
        ("chain", {"recall", "reckon"}),
        ("choice", {"recall", "read"}),
        ("wording", {"wording", "recall"}),
        ("harm", {"recall", "refuse"}),
        ("unknown", {"recall", "abstain"}),
    ],
)
def test_model_answers_show_what_their_task_is_about(task: str, expected: set[str]) -> None:
    found = set()
    for query in TASKS[task].queries("dev")[:40]:
        worked = TASKS[task].item(query).worked
        found |= {skill for _, skill in marks(query.text or "", worked)}
    assert found == expected
