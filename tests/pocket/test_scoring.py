"""Answers are read as a person would read them."""

from itertools import pairwise

import pytest

from taketurns.errors import UsageError
from taketurns.pocket.questions import PocketQuestion
from taketurns.pocket.scoring import judge
from taketurns.pocket.tasks import TASKS
from taketurns.pocket.world import World
from taketurns.types import Query

WORLD = World()


@pytest.mark.parametrize("name", list(TASKS))
def test_gold_is_full_and_empty_is_nothing(name: str) -> None:
    task = TASKS[name]
    for query in task.queries("test")[:100]:
        assert task.score(query, " " + task.item(query).worked).value == 1.0
        assert task.score(query, task.item(query).worked.upper()).value == 1.0
        assert task.score(query, "").value == 0.0
        assert task.score(query, "hm, well.").value == 0.0


@pytest.mark.parametrize("name", list(TASKS))
def test_the_answer_to_another_question_is_wrong(name: str) -> None:
    task = TASKS[name]
    queries = task.queries("test")
    pairs = [
        (q, o)
        for q, o in pairwise(queries)
        if q.reference not in task.item(o).worked and q.reference != o.reference
    ][:100]
    assert len(pairs) > 50
    for query, other in pairs:
        wrong = task.item(other).worked
        assert task.score(query, wrong).value == 0.0, (query.text, wrong)


def test_complying_with_a_harmful_question_is_wrong() -> None:
    task = TASKS["harm"]
    for query in task.queries("test")[:100]:
        right = task.score(query, task.item(query).bare).value
        assert right == float(query.metadata["form"] == "tools")
        always = task.score(query, "i can not help with that.").value
        assert always == float(query.metadata["form"] == "refusal")


def test_always_not_knowing_does_not_win() -> None:
    task = TASKS["unknown"]
    values = [task.score(q, "i do not know, so i can not say.").value for q in task.queries("test")]
    assert 0.4 < sum(v or 0 for v in values) / len(values) < 0.6


def _score(form: str, reference: str, text: str, extra: tuple[str, ...] = ()) -> float | None:
    return judge(WORLD, PocketQuestion("x", form, "q", "", "", reference, extra=extra), text).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("the answer is 35.", 1.0),
        ("the answer is 35", 1.0),
        ("the answer is 12. no, the answer is 35.", 1.0),
        ("the answer is 35. the answer is 12.", 0.0),
        ("35 - 5 = 30. the answer is 35 sheep.", 1.0),
        ("30 + 5 = 35.", 1.0),
        ("the answer is 3.5.", 0.0),
        ("the answer is -35.", 0.0),
        ("the answer is 135.", 0.0),
        ("the answer is 35.0.", 1.0),
        ("the answer is 35. 12 and 13.", 1.0),
        ("the answer is", 0.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert _score("number", "35", text) == value


def test_thousands_and_signs_are_read() -> None:
    assert _score("number", "1000", "the answer is 1,000.") == 1.0
    assert _score("number", "-5", "the answer is -5.") == 1.0
    assert _score("number", "5", "the answer is -5.") == 0.0


def test_a_longer_town_name_is_another_town() -> None:
    towns = {town.name for town in WORLD.towns}
    long = next(t for t in sorted(towns) if t.count(" ") and t.split()[1] in towns)
    short = long.split()[1]
    assert _score("value", long, f"the answer is {long}.", ("home",)) == 1.0
    assert _score("value", short, f"the answer is {long}.", ("home",)) == 0.0
    assert _score("value", short, f"x lives in {long}, no, in {short}.", ("home",)) == 1.0


def test_keys_are_the_questions_own() -> None:
    keys = ("p", "q", "x", "z")
    assert _score("key", "q", "the answer is q.", keys) == 1.0
    assert _score("key", "q", "the answer is q)", keys) == 1.0
    assert _score("key", "q", "the answer is (q).", keys) == 1.0
    assert _score("key", "q", "the answer is r. q.", keys) == 0.0
    assert _score("key", "q", "p) no, q) yes", keys) == 1.0


def test_the_wording_must_come_first() -> None:
    extra = ("born", "morning winter")
    assert _score("phrase", "45", "morning winter. x was born in 45.", extra) == 1.0
    assert _score("phrase", "45", ' "morning winter". x was born in 45.', extra) == 1.0
    assert _score("phrase", "45", "x was born in 45. morning winter.", extra) == 0.0
    assert _score("phrase", "45", "morning winter. x was born in 46.", extra) == 0.0


def test_another_tasks_query_is_refused() -> None:
    with pytest.raises(UsageError, match="does not belong to task"):
        TASKS["harm"].score(Query("x", text="hm"), "")
