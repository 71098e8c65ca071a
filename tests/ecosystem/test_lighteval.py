"""lighteval loads a team as a custom model, asks it, and comes to the score that we come to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taketurns.pocket import TASKS

pytest.importorskip("lighteval", reason="lighteval is not installed")

TASK = """\
import numpy as np
from lighteval.metrics.metrics_sample import ExactMatches
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod


def last_word(text):
    return text.rstrip(" .").rpartition(" ")[2]


def prompt(line, task_name):
    return Doc(task_name=task_name, query=line["question"], choices=[line["answer"]], gold_index=0)


metric = SampleLevelMetric(
    metric_name="em",
    higher_is_better=True,
    category=SamplingMethod.GENERATIVE,
    sample_level_fn=ExactMatches(normalize_pred=last_word),
    corpus_level_fn=np.mean,
)
TASKS_TABLE = [
    LightevalTaskConfig(
        name="local_sums", prompt_function=prompt, hf_repo={data!r}, hf_subset="default",
        hf_avail_splits=["test"], evaluation_splits=["test"], metrics=[metric],
        generation_size=96, stop_sequence=["\\n\\n"],
    )
]
"""


@pytest.mark.slow
def test_lighteval_and_we_agree(questions: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "test.jsonl").write_bytes(questions.read_bytes())
    (tmp_path / "sums.py").write_text(TASK.format(data=str(data)))
    where = subprocess.run(
        [sys.executable, "-m", "taketurns.ecosystem"], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("lighteval")), "custom"),
            *("pocket,policy.greedy_switcher=true", where.stdout.strip(), "local_sums|0"),
            *("--custom-tasks", "sums.py", "--output-dir", str(tmp_path / "out"), "--save-details"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (details,) = (tmp_path / "out").rglob("details_*.parquet")
    from datasets import Dataset

    records = Dataset.from_parquet(str(details))
    arithmetic = TASKS["arithmetic"]
    queries = {query.text: query for query in arithmetic.queries("test")}
    theirs = [record["metric"]["em"] for record in records]
    mine = [
        arithmetic.score(queries[record["doc"]["query"]], record["model_response"]["text"][0]).value
        for record in records
    ]
    assert len(mine) == 12
    assert theirs == mine
    assert sum(theirs) > 6
