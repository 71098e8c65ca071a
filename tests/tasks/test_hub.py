"""Rows as the hub has them become the authors' rows, and are scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import DataError
from taketurns.tasks import hub
from taketurns.tasks.benchmarks import BENCHMARKS
from taketurns.tasks.hub import Source, fetch
from taketurns.tasks.scorers.registry import make_scorer

OPTIONS = {"choices": ["iron", "wax"], "answer": 1}
# A row of each data set in the fields that public code reads, and an answer that is right.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "truthfulqa": (
        {"question": "Q?", "mc1_targets": {"choices": ["it is", "no"], "labels": [1, 0]}}, "it is"),
    "gsm8k": ({"question": "Q?", "answer": "2 + 2 = <<2+2=4>>4\n#### 1,004"}, "1004"),
    "bbh": ({"input": "Q?\nOptions:\n(A) iron\n(B) wax", "target": "(B)"}, "wax"),
    "math": ({"problem": "Q?", "solution": r"So it is $\boxed{\frac{1}{2}}$."}, "0.5"),
    "agieval": (
        {"query": "Q: Which? Answer Choices: (A)iron (B)wax", "choices": ["(A)iron", "(B)wax"],
         "gold": [1]}, "B"),
    "arc_challenge": (
        {"id": "m", "question": "Q?", "choices": {"label": ["1", "2"], "text": ["iron", "wax"]},
         "answerKey": "2"}, "2"),
    "mmlu_redux": ({"question": "Q?", "error_type": "ok", **OPTIONS}, "B"),
    "popqa": ({"id": 1, "question": "Q?", "possible_answers": '["wax", "oil"]'}, "oil"),
    "blend": (
        {"MCQID": "m", "prompt": "Q?", "choices": '{"A": "iron", "B": "wax"}', "answer_idx": "B"},
        "B"),
    "kaleidoscope": (
        {"situation": "S", "vrd": "Duty", "text": "T", "valence": "Opposes"}, "Oppose"),
    "coconot": ({"prompt": "Q?", "category": "Unknowable"}, "I'm sorry, I cannot."),
    "sciriff": (
        {"input": 'Q? list of options: ["Uses", "Extends"].', "output": "Uses"}, "Uses"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_hub_is_asked_and_scored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, right = ROWS[name]
    source = BENCHMARKS[name].source
    assert source is not None
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    local = Source(str(tmp_path), source.row)
    benchmark = BENCHMARKS[name]
    monkeypatch.setitem(benchmark.__dict__, "source", local)
    task = benchmark.load(None, make_scorer(benchmark.scorer))
    (query,) = task.queries("test")
    assert task.score(query, right).value == 1
    assert task.score(query, "").value == 0


def test_rows_that_are_left_out() -> None:
    assert hub.mmlu_redux({"error_type": "wrong_groundtruth"}) is None
    assert hub.wildchat({"language": "French", "toxic": False}) is None
    asked = {"language": "English", "toxic": False, "conversation": [{"content": "Hello?"}]}
    assert hub.wildchat(asked) == {"input": "Hello?"}
    assert hub.alpacaeval({"instruction": "Do."}) == {"input": "Do."}


def test_no_more_rows_are_taken_than_asked_for(tmp_path: Path) -> None:
    row = json.dumps(ROWS["gsm8k"][0])
    (tmp_path / "test.jsonl").write_text(f"{row}\n" * 5)
    assert len(fetch(Source(str(tmp_path), hub.gsm8k, most=2))["test"]) == 2


def test_other_fields_than_expected_are_said(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"prompt": "Q?"}\n')
    with pytest.raises(DataError, match=r"test row 1: its fields .* it has prompt: give"):
        fetch(Source(str(tmp_path), hub.gsm8k))


def test_without_a_network_the_cure_is_said() -> None:
    with pytest.raises(DataError, match=r"give a local copy .* with --data"):
        fetch(Source("nobody/nothing-of-this-name", hub.gsm8k))
