"""From answers to scores and costs: both are means over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from taketurns.config.loading import load_team_config
from taketurns.evaluation.asking import AnswerRequest
from taketurns.evaluation.methods.registry import MethodEntry
from taketurns.evaluation.results import MethodResult, read_results
from taketurns.evaluation.store import Store
from taketurns.runs.records import encode_record
from taketurns.tasks.scored import ScoredTask
from taketurns.tasks.scorers.words import Exact
from taketurns.types import Query


def one_method(
    folder: Path, tokens: dict[str, list[int | None]], again: Sequence[bytes] = ()
) -> MethodResult:
    """A method's answers by task: all wrong, of so many tokens each; None failed. `again` are lines
    that are there too."""
    store = Store(folder, load_team_config("pocket"))
    tasks, items, lines = {}, [], []
    for name, own in tokens.items():
        queries = tuple(Query(f"{name}/{number}", text="?") for number in range(len(own)))
        tasks[name] = ScoredTask(name, "own", {"test": queries}, Exact())
        for query, count in zip(queries, own, strict=True):
            items.append(AnswerRequest(tasks[name], query, 0))
            record = {"id": items[-1].id, "task": name, "error": "out of memory"}
            if count is not None:
                record |= {"error": None, "score": 0.0, "text": "", "by_model": {}}
                record |= {"read": count - 1, "written": 1, "passes": 1, "seconds": count / 100}
            lines.append(encode_record(record))
    store.answers("alone").write_bytes(b"".join([*lines, *again]))
    entry = MethodEntry("alone", "single", "", lambda stage: pytest.fail("nothing is asked"))
    return read_results(store, [entry], tasks, items, {"alone": None})["alone"]


def test_a_task_with_more_questions_weighs_no_more_in_the_cost(tmp_path: Path) -> None:
    """Fault: the cost was an answer's and the score a task's, so that what is dear on a small task
    seemed cheap."""
    cost = one_method(tmp_path, {"few": [100, 100], "many": [10] * 8}).cost
    assert (cost.tokens, cost.read, cost.written) == (55.0, 54.0, 1.0)
    assert cost.seconds == pytest.approx(0.55)


def test_failed_answers_cost_nothing_that_is_known(tmp_path: Path) -> None:
    some = one_method(tmp_path / "some", {"few": [None, 30], "many": [None] * 3})
    assert (some.cost.tokens, some.missing) == (30.0, 4)
    assert one_method(tmp_path / "none", {"few": [None]}).cost.tokens == 0.0


def test_an_answer_that_is_there_twice_costs_once(tmp_path: Path) -> None:
    """Fault: what two processes had written twice counted twice in the cost."""
    once = one_method(tmp_path / "once", {"few": [10, 40]})
    lines = (tmp_path / "once" / "answers" / "alone.jsonl").read_bytes().splitlines(True)
    assert len(lines) == 2
    twice = one_method(tmp_path / "twice", {"few": [10, 40]}, again=lines[:1] * 2)
    assert (twice.cost, twice.work) == (once.cost, once.work)
