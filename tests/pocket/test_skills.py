"""What an answer asks for next, by rules, and labels made of that."""

from __future__ import annotations

from typing import Any

import pytest

from taketurns.errors import DataError
from taketurns.pocket.questions import PocketQuestion
from taketurns.pocket.skills import needed, relabel
from taketurns.pocket.tasks import TASKS
from taketurns.runs.records import query_to_json

NAMES = ["pretrained", "sft", "aligned"]


def first(kind: str, form: str | None = None) -> PocketQuestion:
    task = TASKS[kind]
    items = (task.item(query) for query in task.queries("dev"))
    return next(item for item in items if form in (None, item.form))


@pytest.mark.parametrize(
    ("kind", "form", "skill"),
    [
        ("recall", None, "recall"),
        ("arithmetic", None, "reckon"),
        ("total", None, "recall"),
        ("given", None, "read"),
        ("wording", None, "wording"),
        ("harm", "refusal", "refuse"),
        ("harm", "tools", "recall"),
        ("unknown", "unknown", "abstain"),
        ("choice", None, "recall"),
    ],
)
def test_what_an_answer_begins_with(kind: str, form: str | None, skill: str) -> None:
    assert needed(TASKS[kind].world, first(kind, form), "", 16) == skill


def test_a_computed_answer_asks_for_facts_then_for_reckoning_then_for_nothing() -> None:
    item, world = first("total"), TASKS["total"].world
    facts, _, _ = item.worked.partition(" so together")
    assert needed(world, item, f" {facts}", 16) == "reckon"
    assert needed(world, item, item.worked.partition("]")[0], 2) == "reckon"
    assert needed(world, item, item.worked.partition(" the answer is")[0], 16) is None
    assert needed(world, item, item.worked + " and so on", 16) is None


def test_a_wrong_fact_does_not_lose_the_place() -> None:
    item, world = first("total"), TASKS["total"].world
    facts, _, _ = item.worked.partition(" so together")
    wrong = facts.translate(str.maketrans("0123456789", "9876543210"))
    assert needed(world, item, wrong, 16) == "reckon"


def record(kind: str, text: str, **changes: Any) -> dict[str, Any]:
    query = TASKS[kind].queries("dev")[0]
    return {
        "id": f"{query.id}#0", "task": kind, "query": query_to_json(query), "error": None,
        "prefix": [{"text": text}] if text else [], "patch_size": 16, "candidates": NAMES,
        "branches": [{"speaker": i, "utilities": [0.5, 0.5]} for i in range(3)],
        **changes,
    }  # fmt: skip


def test_utilities_say_who_has_the_skill() -> None:
    rows = [
        record("recall", ""),
        record("arithmetic", ""),
        record("recall", first("recall").worked),
    ]
    failed = {"id": "x", "error": "no"}
    left_out = {"id": "y", "left_out": "the switcher compares no patches in this answer"}
    made = [
        [branch["utilities"] for branch in row["branches"]]
        for row in relabel([*rows, failed, left_out], TASKS, "pretrained")
    ]
    assert made == [[[1.0], [0.0], [0.0]], [[0.0], [1.0], [1.0]], [[1.0]] * 3]


def test_patches_of_no_fixed_size_are_refused() -> None:
    with pytest.raises(DataError, match="patches without a fixed size"):
        list(relabel([record("recall", "", patch={"until": "random"})], TASKS, "pretrained"))


@pytest.mark.parametrize("changes", [{"task": "gsm8k"}, {"candidates": ["a", "b", "c"]}])
def test_other_records_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"is not a pocket task|no candidate 'pretrained'"):
        list(relabel([record("recall", "", **changes)], TASKS, "pretrained"))
