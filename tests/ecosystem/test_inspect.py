"""inspect_ai finds a team by its entry point, asks it, and comes to the score that we come to."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import UsageError
from taketurns.pocket import TASKS

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

TASK = """\
from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import generate


@task
def local_sums():
    fields = FieldSpec(input="question", target="answer", id="id")
    return Task(
        dataset=json_dataset({data!r}, fields), solver=generate(), scorer=match(numeric=True)
    )
"""


@pytest.mark.slow
def test_inspect_and_we_agree(questions: Path, tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(TASK.format(data=str(questions)))
    command = Path(sys.executable).with_name("inspect")
    assert command.is_file() or shutil.which("inspect")
    done = subprocess.run(
        [
            *(str(command), "eval", "sums.py", "--model", "taketurns/pocket"),
            *("-M", "policy.greedy_switcher=true", "--temperature", "0", "--max-tokens", "96"),
            *("--log-dir", str(tmp_path / "logs"), "--log-format", "json", "--display", "plain"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (log,) = (tmp_path / "logs").glob("*.json")
    record = json.loads(log.read_text())
    assert record["status"] == "success", record.get("error")
    (metrics,) = (score["metrics"] for score in record["results"]["scores"])
    theirs = metrics["accuracy"]["value"]
    arithmetic = TASKS["arithmetic"]
    queries = {query.id: query for query in arithmetic.queries("test")}
    said = {
        sample["id"]: sample["output"]["choices"][0]["message"]["content"]
        for sample in record["samples"]
    }
    scores = [arithmetic.score(queries[id_], text) for id_, text in said.items()]
    assert len(scores) == 12
    assert theirs == pytest.approx(sum(score.value or 0 for score in scores) / len(scores))
    assert theirs > 0.5
    first = record["samples"][0]
    patches = first["output"]["metadata"]["patches"]
    assert "".join(text for _, text in patches) == said[first["id"]]


async def asked(text: Any, **settings: Any) -> Any:
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    from taketurns.integrations.inspect import TeamAPI

    model = TeamAPI("pocket", speaker="aligned")
    try:
        turns = [ChatMessageUser(content=text)]
        return await model.generate(turns, [], "none", GenerateConfig(**settings))
    finally:
        await model.aclose()


def test_a_prompt_that_is_too_long_ends_its_own_answer_alone() -> None:
    output = asyncio.run(asked("what is 3 + 4? " * 2000))
    assert (output.stop_reason, output.completion) == ("model_length", "")
    assert "context" in output.error


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"top_k": 5, "temperature": 0.7}, "setting top_k=5"),
        ({"frequency_penalty": 0.5}, "setting frequency_penalty=0.5"),
        ({"num_choices": 3}, "setting num_choices=3"),
        ({"logprobs": True}, "setting logprobs=True"),
        ({"reasoning_effort": "high"}, "setting reasoning_effort='high'"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(
    settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        asyncio.run(asked("what is 3 + 4?", **settings))


def test_settings_of_the_harness_itself_may_stand() -> None:
    settings = {"max_retries": 2, "max_tokens": 8, "temperature": 0, "top_k": 5, "num_choices": 1}
    assert asyncio.run(asked("what is 3 + 4?", **settings)).completion


def test_images_are_refused() -> None:
    from inspect_ai.model import ContentImage, ContentText

    with pytest.raises(UsageError, match=r"reads only text, .* of the type 'image'"):
        asyncio.run(asked([ContentText(text="?"), ContentImage(image="data:image/png;base64,")]))
