"""A local task for every harness: questions of the pocket world, asked without any chance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taketurns.pocket import TASKS

QUESTIONS = 12


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of arithmetic in JSON lines: id, question, answer."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    queries = TASKS["arithmetic"].queries("test")[:QUESTIONS]
    lines = [{"id": q.id, "question": q.text, "answer": q.reference} for q in queries]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
