"""The table of right and wrong answers: what it measures is what the scorers do."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scorers" / "measure.py"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scorer_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_right_answers_score_full_and_wrong_ones_nothing(
    measure: ModuleType, tmp_path: Path
) -> None:
    rows = [
        {"id": n, "question": f"Question {n}?", "answer": key, "choices": {"1": "iron", "2": "wax"}}
        for n, key in enumerate("12")
    ]
    (tmp_path / "arc_challenge.json").write_text(json.dumps({"dev": [], "test": rows}))
    asked, found = measure.compare("arc_challenge", tmp_path, None)
    assert asked == 2
    assert (found["gold ours"].mean, found["gold ours"].unread) == (1, 0)
    assert (found["wrong ours"].mean, found["wrong ours"].full) == (0, 0)
    assert found["gold moco"].mean == 0  # which knows no keys but A, B, C
