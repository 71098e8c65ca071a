"""Tasks by name, each under a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from taketurns.errors import UsageError
from taketurns.evaluation.tasks import load


def task_file(folder: Path, file: str, name: str) -> str:
    (folder / "data.jsonl").write_text('{"id": 1, "text": "6 x 7?", "reference": "42"}\n')
    (folder / file).write_text(f"name: {name}\ndata: data.jsonl\nscorer: exact\n")
    return str(folder / file)


def test_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    """Fault: the second took the place of the first, whose questions were never asked."""
    mine, other = task_file(tmp_path, "a.yaml", "mine"), task_file(tmp_path, "b.yaml", "mine")
    assert list(load([mine, mine, "recall"])) == ["mine", "recall"]
    with pytest.raises(UsageError, match="two tasks are called 'mine': change the key 'name'"):
        load([mine, other])
    with pytest.raises(UsageError, match="two tasks are called 'recall'"):
        load(["recall", task_file(tmp_path, "c.yaml", "recall")])
