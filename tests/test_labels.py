"""Utilities become labels: who is best, who ties, and what a switcher is to learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.errors import DataError
from taketurns.training.labels.labels import Label, label_from_json, read_labels
from taketurns.types import Query

QUERY = Query("q", text="?")
POOL = ["pretrained", "sft", "aligned"]


def label(*utilities: float | None) -> Label:
    return Label("q#0", QUERY, (), utilities, tuple(8 for _ in utilities))


def patch(speaker: int = 0) -> dict[str, Any]:
    return {
        "name": POOL[speaker], "speaker": speaker, "text": "x", "token_ids": [1],
        "finish": "length", "reason": "chosen", "probabilities": None,
        "timing": {"decide": 0.0, "write": 0.0},
    }  # fmt: skip


def record(number: int = 0, **changes: Any) -> dict[str, Any]:
    utilities = [[0.0, 1.0], [1.0, 1.0], []]
    return {
        "schema": "taketurns.rollouts/1", "id": f"q{number}#0", "task": "t", "category": "c",
        "query": {"id": f"q{number}", "text": "?"}, "candidates": POOL, "patch_size": 16,
        "traces": "random", "prefix": [patch(2)], "exact": True,
        "branches": [
            {"speaker": i, "patch": patch(i), "ended": False, "utilities": u, "failures": 0}
            for i, u in enumerate(utilities)
        ],
        "allocation": "uniform", "error": None,
    } | changes  # fmt: skip


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_the_best_have_the_highest_mean() -> None:
    assert label(0.1, 0.5, 0.2).best == (1,)
    assert label(0.5, 0.5, 0.2).best == (0, 1)
    assert label(0.5, 0.5, 0.2).margin == pytest.approx(0.3)
    assert label(0.5, 0.5, 0.5).tied
    assert not label(0.5, 0.5, None).tied


def test_racing_says_itself_which_tie() -> None:
    raced = replace(label(0.5, 0.52, 0.1), reported_best=(0, 1))
    assert raced.best == (0, 1)
    assert raced.targets("tied") == (0.5, 0.5, 0)
    assert raced.targets("hard") == (1, 0, 0)  # the best first: its mean is of more rollouts
    assert label_from_json(record(best=[1, 2]), POOL).best == (1, 2)
    assert label_from_json(record(best=None), POOL).best == (1,)


def test_a_missing_utility_is_none_and_never_a_number() -> None:
    """Fault: a candidate without rollouts was given the utility -1000."""
    some = label(0.0, None, 0.25)
    assert some.best == (2,)
    assert some.margin == 0.25
    assert some.targets("soft")[1] == 0
    with pytest.raises(ValueError, match="no utility for any candidate"):
        label(None, None)


def test_targets() -> None:
    two = label(0.5, 0.5, 0.2)
    assert two.targets("hard") == (1, 0, 0)
    assert two.targets("tied") == (0.5, 0.5, 0)
    soft = two.targets("soft", 0.1)
    assert soft == pytest.approx((0.4879, 0.4879, 0.0243), abs=1e-4)
    assert two.targets("soft", 1e-6) == pytest.approx((0.5, 0.5, 0))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        two.targets("soft", 0)


utilities = st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=10).filter(
    lambda found: any(u is not None for u in found)
)


@given(utilities, st.sampled_from(["hard", "tied", "soft"]), st.floats(1e-3, 10))
def test_targets_are_distributions_with_their_mode_at_the_best(
    found: list[float | None], kind: Any, temperature: float
) -> None:
    one = label(*found)
    targets = one.targets(kind, temperature)
    assert sum(targets) == pytest.approx(1)
    assert max(targets) == pytest.approx(targets[one.best[0]])
    assert all(t == 0 for t, u in zip(targets, found, strict=True) if u is None)


def test_labels_are_read_in_order(tmp_path: Path) -> None:
    failure = {"id": "q1#0", "error": "the server is gone"}
    path = written(tmp_path / "r.jsonl", record(0), failure, record(2))
    one, two = read_labels(path, POOL)
    assert (one.id, two.id) == ("q0#0", "q2#0")
    assert one.query == Query("q0", text="?")
    assert one.utilities == (0.5, 1.0, None)
    assert one.counts == (2, 2, 0)
    assert one.task == "t"
    assert [p.speaker for p in one.prefix] == [2]


@pytest.mark.parametrize("pool", [["sft", "pretrained", "aligned"], ["pretrained", "sft"]])
def test_labels_of_another_pool_are_refused(tmp_path: Path, pool: list[str]) -> None:
    path = written(tmp_path / "r.jsonl", record())
    with pytest.raises(DataError, match=r"r.jsonl:1: these rollouts were made with .* pretrained"):
        list(read_labels(path, pool))


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", record(0), record(1))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"r.jsonl:2: not a record"):
        list(read_labels(path, POOL))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "taketurns.trace/1"}, "not a taketurns.rollouts/1 record: its schema is 'take"),
        ({"branches": []}, "has branches of the candidates []; it needs exactly one"),
        ({"branches": [{}]}, "is incomplete or damaged: KeyError"),
        ({"prefix": None}, "is incomplete or damaged: TypeError"),
        ({"query": {}}, '"id" must be a non-empty string'),
    ],
)
def test_what_is_no_record_is_said(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "r.jsonl", record() | changes)
    with pytest.raises(DataError, match=r"r.jsonl:1: ") as caught:
        list(read_labels(path, POOL))
    assert said in str(caught.value)


def test_files_that_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        list(read_labels(written(tmp_path / "r.jsonl"), POOL))
    with pytest.raises(DataError, match="cannot read"):
        list(read_labels(tmp_path / "gone", POOL))
    with pytest.raises(DataError, match=r"r.jsonl:2: the id 'q0#0' is already in line 1"):
        list(read_labels(written(tmp_path / "r.jsonl", record(), record(task="u")), POOL))


def test_a_record_without_any_utility_has_no_label() -> None:
    empty = record()
    for branch in empty["branches"]:
        branch["utilities"] = []
    with pytest.raises(DataError, match="has no utility for any candidate"):
        label_from_json(empty, POOL)
