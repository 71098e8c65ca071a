"""lm-evaluation-harness asks a team, and comes to the score that we come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import UsageError
from taketurns.pocket import TASKS

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

TASK = """\
task: local_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 96, temperature: 0.0, do_sample: false}}
filter_list:
  - name: last
    filter:
      - {{function: regex, regex_pattern: "(-?[0-9]+) ?\\\\.?$"}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match}}
"""


@pytest.fixture
def task(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task file on the local questions."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    (tmp_path / "local_sums.yaml").write_text(TASK.format(data=questions))
    return tmp_path


def ours(samples: list[dict[str, Any]]) -> float:
    """What our own scorer finds of the harness's samples."""
    arithmetic = TASKS["arithmetic"]
    queries = {query.text: query for query in arithmetic.queries("test")}
    scores = [
        arithmetic.score(queries[sample["doc"]["question"]], sample["resps"][0][0]).value or 0
        for sample in samples
    ]
    return sum(scores) / len(scores)


def test_the_harness_and_we_agree(task: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from taketurns.ecosystem.lm_eval import TeamLM

    found = simple_evaluate(
        model=TeamLM(team="pocket", **{"policy.greedy_switcher": True}),
        tasks=["local_sums"],
        task_manager=TaskManager(include_path=str(task), include_defaults=False),
        bootstrap_iters=0,
        limit=6,
    )
    theirs = found["results"]["local_sums"]["exact_match,last"]
    assert theirs == pytest.approx(ours(found["samples"]["local_sums"]))
    assert theirs > 0.5  # arithmetic is what the tuned checkpoints can do


def test_log_likelihoods_are_refused_with_the_reason() -> None:
    from taketurns.ecosystem.lm_eval import TeamLM

    model = TeamLM(team="pocket")
    for ask in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(UsageError, match=r"gives no log-likelihood .* which candidates"):
            ask([])


def test_turns_stay_turns() -> None:
    from lm_eval.api.instance import Instance

    from taketurns.ecosystem.lm_eval import TeamLM

    model = TeamLM(team="pocket", speaker="aligned")
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    context = model.apply_chat_template(turns)
    settings = {"until": "\n", "max_gen_toks": 9, "do_sample": True, "temperature": 0.5}
    request = Instance("generate_until", {}, (context, settings), 0, ("t", 1, 1))
    query, policy = model._query(request), model._policy(settings)
    assert [message.role for message in query.messages or ()] == ["system", "user"]
    assert (policy.max_tokens, policy.temperature, policy.stop) == (9, 0.5, ("\n",))


@pytest.mark.slow
def test_the_command_runs_the_harness(task: Path) -> None:
    arguments = [
        *("lm-eval", "run", "--model", "taketurns", "--include_path", str(task)),
        *("--model_args", "team=pocket,policy.greedy_switcher=true", "--tasks", "local_sums"),
        *("--output_path", str(task / "out"), "--log_samples"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "taketurns", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(task / "hf")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (task / "out").rglob("results_*.json")
    theirs = json.loads(results.read_text())["results"]["local_sums"]["exact_match,last"]
    (samples,) = (task / "out").rglob("samples_*.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(records) == 12
    assert theirs == pytest.approx(ours(records))


@pytest.mark.slow
def test_the_command_says_why_a_task_is_refused(task: Path) -> None:
    text = (task / "local_sums.yaml").read_text()
    text = text.replace("generate_until", "multiple_choice").replace("exact_match", "acc")
    text = text[: text.index("generation_kwargs")] + text[text.index("metric_list") :]
    choices = 'doc_to_target: 0\ndoc_to_choice: ["1", "2"]'
    (task / "local_sums.yaml").write_text(text.replace('doc_to_target: "{{answer}}"', choices))
    arguments = ["run", "--model", "taketurns", "--include_path", str(task)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "taketurns", "lm-eval", *arguments),
            *("--model_args", "team=pocket", "--tasks", "local_sums"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(task / "hf")},
        check=False,
    )
    assert done.returncode == 2
    assert "taketurns: a team gives no log-likelihood of a text" in done.stderr
    assert "Traceback" not in done.stderr
