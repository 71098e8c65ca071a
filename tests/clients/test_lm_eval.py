"""lm-evaluation-harness: whole answers of the team, and multiple choice with one of its
candidates, whose log-probabilities of a prompt are the only ones that there are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from .environments import Environments, Outcome
from .served import Served

QUESTIONS = [
    {"question": "Is Lisbon a town or a port?", "choices": ["a town", "a port"], "label": 1},
    {"question": "Is the sea salty?", "choices": ["yes", "no"], "label": 0},
]
COMMON = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
GENERATE = """\
output_type: generate_until
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 16}
metric_list: [{metric: exact_match}]
"""
CHOOSE = """\
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc}]
"""


def evaluated(
    clients: Environments, folder: Path, task: str, kind: str, where: str, *options: str
) -> tuple[Outcome, list[dict]]:
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (folder / "questions.yaml").write_text(COMMON.format(name="questions", data=data) + task)
    outcome = clients.run(
        [
            *(clients.command("lm-eval", "lm_eval"), "--model", kind),
            *("--model_args", f"{where},max_retries=1", "--include_path", folder),
            *("--tasks", "questions", "--output_path", folder / "out", "--log_samples"),
            *options,
        ],
        HF_HOME=str(folder / "hf"),
        HF_HUB_OFFLINE="1",
    )
    # It first looks whether the server has vLLM's /tokenizer_info.
    refused = [refusal for refusal in outcome.refusals if "tokenizer_info" not in refusal]
    assert refused == []
    assert not outcome.failed, outcome.output[-3000:]
    (samples,) = (folder / "out").rglob("samples_*.jsonl")
    return outcome, [json.loads(line) for line in samples.read_text().splitlines()]


def test_chat(clients: Environments, served: Served, tmp_path: Path) -> None:
    where = f"model=team,base_url={served.url}/v1/chat/completions"
    outcome, samples = evaluated(
        *(clients, tmp_path, GENERATE, "local-chat-completions", where),
        "--apply_chat_template",
    )
    assert {s["resps"][0][0] for s in samples} == {answer.text for answer in outcome.answers}


@pytest.mark.parametrize("more", ["", ",tokenized_requests=False"], ids=["ids", "text"])
def test_completions(clients: Environments, served: Served, tmp_path: Path, more: str) -> None:
    where = f"model={served.speaker},base_url={served.url}/v1/completions,tokenizer={served.folder}"
    outcome, samples = evaluated(clients, tmp_path, GENERATE, "local-completions", where + more)
    assert {s["resps"][0][0] for s in samples} == {answer.text for answer in outcome.answers}


@pytest.mark.parametrize(
    ("more", "options"),
    [("", []), (",tokenized_requests=False", []), ("", ["--batch_size", "4"])],
    ids=["ids", "text", "batches"],
)
def test_multiple_choice(
    clients: Environments, served: Served, tmp_path: Path, more: str, options: list[str]
) -> None:
    where = f"model={served.speaker},base_url={served.url}/v1/completions,tokenizer={served.folder}"
    _, samples = evaluated(clients, tmp_path, CHOOSE, "local-completions", where + more, *options)
    for sample in samples:
        assert len(sample["filtered_resps"]) == 2
        for logprob, _ in sample["filtered_resps"]:
            assert -1000 < float(logprob) < 0
            assert math.isfinite(float(logprob))
