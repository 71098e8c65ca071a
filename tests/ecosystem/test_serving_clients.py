"""Other people's clients ask a served team and get what the team writes offline."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.pocket import TASKS

KEY = "sk-only-for-this-test"
SEED = 1234  # lm-evaluation-harness sends it with every request
NEEDS_LM_EVAL = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("lm_eval", "aiohttp", "tenacity")),
    reason="lm-evaluation-harness is not installed: pip install 'lm-eval[api]'",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The bundled team, served as its users serve it."""
    command = [sys.executable, "-m", "taketurns", "serve", "--port", "0", "--name", "team"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        where = server.stderr.readline().split()[-1]
        _until_ready(f"{where}/health/ready")
        yield where
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        assert server.returncode == 0


@pytest.fixture(scope="module")
def questions() -> list[str]:
    return [query.text or "" for query in TASKS["arithmetic"].queries("test")[:6]]


@pytest.fixture(scope="module")
def answers(questions: list[str]) -> list[str]:
    """What the team writes for them offline."""
    with Team.load("pocket", temperature=0.0, max_tokens=96, stop=["\n\n"]) as team:
        return [team.generate(question, seed=SEED).text for question in questions]


@NEEDS_LM_EVAL
def test_lm_eval_asks_through_local_chat_completions(
    url: str,
    questions: list[str],
    answers: list[str],
    tmp_path: Path,
    write_lm_eval_task: Callable[..., None],
) -> None:
    data = tmp_path / "questions.jsonl"
    lines = [{"question": question, "answer": "0"} for question in questions]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_lm_eval_task(tmp_path, "served_sums", data)
    where = f"model=team,base_url={url}/v1/chat/completions,num_concurrent=3,max_retries=1"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--model", "local-chat-completions"),
            *("--model_args", where, "--apply_chat_template"),
            *("--include_path", str(tmp_path), "--tasks", "served_sums"),
            *("--output_path", str(tmp_path / "out"), "--log_samples"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    told = {record["doc"]["question"]: record["resps"][0][0] for record in records}
    assert [told[question] for question in questions] == answers


CHOICES = """\
task: served_choices
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "question: {{question}} answer:"
doc_to_choice: "{{choices}}"
doc_to_target: 0
metric_list:
  - {metric: acc}
"""


@NEEDS_LM_EVAL
def test_lm_eval_weighs_choices_through_local_completions(
    url: str, questions: list[str], tmp_path: Path
) -> None:
    """It sends token ids, `echo`, `logprobs` and a `max_tokens` of 1, to a single candidate. Its
    sums are those of the model's own forwards."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = next(c.spec for c in load_team_config("pocket").candidates if c.name == "sft")
    data = tmp_path / "choices.jsonl"
    choices = ["7 + 1 = 8.", "the answer is 71.", " "]
    lines = [{"question": question, "choices": choices} for question in questions[:4]]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "served_choices.yaml").write_text(CHOICES.replace("DATA", str(data)))
    where = (
        f"model=sft,base_url={url}/v1/completions,tokenizer={spec.model},"
        "tokenizer_backend=huggingface,num_concurrent=2,max_retries=1"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--model", "local-completions"),
            *("--model_args", where, "--include_path", str(tmp_path)),
            *("--tasks", "served_choices", "--output_path", str(tmp_path / "out")),
            "--log_samples",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(spec.model)
    model = AutoModelForCausalLM.from_pretrained(spec.model)
    assert len(records) == 4
    for record in records:
        asked = f"question: {record['doc']['question']} answer:"
        for choice, ((told, greedy),) in zip(choices, record["resps"], strict=True):
            before = tokenizer(asked, add_special_tokens=False)["input_ids"]
            whole = tokenizer(f"{asked} {choice}", add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            places = range(len(before), len(whole))
            expected = sum(float(logprobs[place - 1, whole[place]]) for place in places)
            best = all(int(logprobs[place - 1].argmax()) == whole[place] for place in places)
            assert float(told) == pytest.approx(expected, abs=1e-3)
            assert str(greedy) == str(best)


@pytest.mark.skipif(
    shutil.which(os.environ.get("LITELLM", "litellm")) is None,
    reason="litellm is not installed; `make test-ecosystem` puts it in a place of its own",
)
def test_litellm_s_proxy_passes_a_team_on(
    url: str, questions: list[str], answers: list[str], tmp_path: Path
) -> None:
    config = {
        "model_list": [
            {
                "model_name": "turns",
                "litellm_params": {
                    "model": "openai/team",
                    "api_base": f"{url}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": KEY},
    }
    (tmp_path / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(os.environ.get("LITELLM", "litellm"), "--config", str(tmp_path / "litellm.yaml")),
        *("--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    with (
        (tmp_path / "litellm.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet) as proxy,
    ):
        try:
            _until_ready(f"http://127.0.0.1:{port}/health/liveliness")
            client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
            asked = {"model": "turns", "temperature": 0, "max_tokens": 96, "seed": SEED}
            for question, answer in zip(questions[:3], answers[:3], strict=True):
                turns = [{"role": "user", "content": question}]
                whole = client.chat.completions.create(messages=turns, **asked)
                assert whole.choices[0].message.content == answer
                stream = client.chat.completions.create(messages=turns, stream=True, **asked)
                chunks = list(stream)
                pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
                assert "".join(pieces) == answer
                assert len(pieces) > 5
                # The proxy keeps what stands on the last chunk, and of a whole answer's choice.
                beside = chunks[-1].model_extra["taketurns"]
                assert beside["seed"] == SEED
                assert "".join(patch["text"] for patch in beside["patches"]) == answer
                fields = whole.choices[0].model_extra["provider_specific_fields"]
                assert fields["taketurns"]["seed"] == SEED
        finally:
            proxy.terminate()


def _until_ready(url: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{url} was never ready")
