"""lighteval loads a team as a custom model, asks it, and comes to the score that we come to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import UsageError
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
        [sys.executable, "-m", "taketurns.integrations"], capture_output=True, text=True, check=True
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


def model(**settings: Any) -> Any:
    from lighteval.models.custom.custom_model import CustomModelConfig
    from lighteval.models.model_input import GenerationParameters

    from taketurns.integrations.lighteval import TeamModel

    return TeamModel(
        CustomModelConfig(
            model_name="pocket,speaker=aligned",
            model_definition_file_path="lighteval.py",
            generation_parameters=GenerationParameters(**settings),
        )
    )


def doc(query: str, **more: Any) -> Any:
    from lighteval.tasks.requests import Doc

    return Doc(query=query, choices=[""], gold_index=0, id="1", task_name="sums", **more)


def test_generation_parameters_are_followed() -> None:
    given = model(temperature=0.5, top_p=0.8, seed=4, max_new_tokens=9, stop_tokens=["!"])
    policy = given._policy(doc("?", generation_size=90, stop_sequences=["?"]))
    assert (policy.temperature, policy.speaker_top_p, policy.seed) == (0.5, 0.8, 4)
    assert (policy.max_tokens, policy.stop) == (9, ("?", "!"))
    assert model()._policy(doc("?")).temperature == 0


def test_what_cannot_be_followed_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"lighteval: .* setting repetition_penalty=1.3"):
        model(repetition_penalty=1.3)
    with pytest.raises(UsageError, match="setting top_k=5"):
        model(top_k=5, temperature=0.7)


def test_a_prompt_that_is_too_long_has_an_empty_answer(caplog: pytest.LogCaptureFixture) -> None:
    docs = [doc("what is 3 + 4?", generation_size=9), doc("what is 3 + 4? " * 2000)]
    first, long = model().greedy_until(docs)
    assert first.text[0]
    assert long.text == [""]
    assert "1 of 2 prompts are too long" in caplog.text
