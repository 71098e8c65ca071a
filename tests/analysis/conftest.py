"""Answers made by hand, and an evaluation's folder made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.runs.records import encode_record, trace_to_json
from taketurns.types import Patch, Query, Trace

POOL = ("base", "tuned", "aligned")
Probabilities = tuple[float, ...] | None


def patch(
    speaker: int, text: str = " word", probabilities: Probabilities = (0.6, 0.3, 0.1)
) -> Patch:
    return Patch(speaker, (1, 2), text, "length", "chosen", probabilities)


def answer(
    speakers: Sequence[int],
    score: float,
    *,
    question: str = "q0",
    seed: int = 0,
    task: str = "sums",
    texts: Sequence[str] | None = None,
    probabilities: Probabilities = (0.6, 0.3, 0.1),
) -> ScoredAnswer:
    written = texts or [" word"] * len(speakers)
    return ScoredAnswer(
        task=task,
        category=f"{task} in general",
        question=f"{task}/{question}",
        seed=seed,
        score=score,
        query=Query(question, text=f"what is {question}?"),
        patches=tuple(patch(s, t, probabilities) for s, t in zip(speakers, written, strict=True)),
    )


def method_answers(answers: Sequence[ScoredAnswer], pool: Sequence[str] = POOL) -> MethodAnswers:
    return MethodAnswers("switch", tuple(pool), tuple(answers))


Row = tuple[str, Trace, float]
"""A task, an answer and its score."""
Folder = Callable[[Mapping[str, Sequence[Row]]], Path]


@pytest.fixture
def evaluation(tmp_path: Path) -> Folder:
    """Write what `taketurns evaluate` leaves of these answers, by method."""

    def write(methods: Mapping[str, Sequence[Row]]) -> Path:
        folder = tmp_path / "evaluation"
        (folder / "answers").mkdir(parents=True)
        kinds = {"switch": "switch", "random": "control"}
        tasks = {task for rows in methods.values() for task, _, _ in rows}
        results = {
            "schema": "taketurns.evaluation/2",
            "subject": "switch",
            "settings": {"team": {"candidates": [{"name": name} for name in POOL]}},
            "categories": {task: f"{task} in general" for task in sorted(tasks)},
            "methods": {
                name: {"kind": kinds.get(name, "single"), "file": f"answers/{name}.jsonl"}
                for name in methods
            },
            "asked": {
                task: [f"{task}/{t.query.id}@0" for rows in methods.values() for _, t, _ in rows]
                for task in sorted(tasks)
            },
        }
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        for name, rows in methods.items():
            names = POOL if name in kinds else [name]
            lines = [
                {
                    **trace_to_json(trace, names),
                    "id": f"{task}/{trace.query.id}@0#{trace.seed}",
                    "task": task,
                    "score": score,
                }
                for task, trace, score in rows
            ]
            (folder / "answers" / f"{name}.jsonl").write_bytes(b"".join(map(encode_record, lines)))
        return folder

    return write
