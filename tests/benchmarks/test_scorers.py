"""The table of right and wrong answers: what it measures is what the scorers do."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.scorers.measure import compare


def test_right_answers_score_full_and_wrong_ones_nothing(tmp_path: Path) -> None:
    rows = [
        {"id": n, "question": f"Question {n}?", "answer": key, "choices": {"1": "iron", "2": "wax"}}
        for n, key in enumerate("12")
    ]
    (tmp_path / "arc_challenge.json").write_text(json.dumps({"dev": [], "test": rows}))
    asked, found = compare("arc_challenge", tmp_path, None)
    assert asked == 2
    assert (found["gold ours"].mean, found["gold ours"].unread) == (1, 0)
    assert (found["wrong ours"].mean, found["wrong ours"].full) == (0, 0)
    assert found["gold moco"].mean == 0  # which knows no keys but A, B, C
