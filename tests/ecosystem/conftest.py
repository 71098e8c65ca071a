"""A local task for every harness: questions of the pocket world, asked without any chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taketurns.pocket import TASKS

QUESTIONS = 12
LM_EVAL_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 96, temperature: 0.0, do_sample: false}}
metric_list:
  - {{metric: exact_match}}
"""


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of arithmetic in JSON lines: id, question, answer."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    queries = TASKS["arithmetic"].queries("test")[:QUESTIONS]
    lines = [{"id": q.id, "question": q.text, "answer": q.reference} for q in queries]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def write_lm_eval_task() -> Callable[..., None]:
    """Writes a task of lm-evaluation-harness, on a file of questions, into a folder."""

    def write(folder: Path, name: str, data: Path, more: str = "") -> None:
        text = LM_EVAL_TASK.format(name=name, data=data) + more
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    return write
