"""lm-evaluation-harness asks a team, and comes to the score that we come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import LengthError, UsageError
from taketurns.pocket import TASKS

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

LAST_NUMBER = """\
filter_list:
  - name: last
    filter:
      - {function: regex, regex_pattern: "(-?[0-9]+) ?\\\\.?$"}
      - {function: take_first}
"""


@pytest.fixture
def task(
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_lm_eval_task: Callable[..., None],
) -> Path:
    """A folder with a task file on the local questions."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    write_lm_eval_task(tmp_path, "local_sums", questions, LAST_NUMBER)
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

    from taketurns.integrations.lm_eval import TeamLM

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
    from taketurns.integrations.lm_eval import TeamLM

    model = TeamLM(team="pocket")
    for ask in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(UsageError, match=r"gives no log-likelihood .* which candidates"):
            ask([])


def test_turns_stay_turns() -> None:
    from lm_eval.api.instance import Instance

    from taketurns.integrations.lm_eval import TeamLM

    model = TeamLM(team="pocket", speaker="aligned")
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    context = model.apply_chat_template(turns)
    settings = {"until": "\n", "max_gen_toks": 9, "do_sample": True, "temperature": 0.5}
    request = Instance("generate_until", {}, (context, settings), 0, ("t", 1, 1))
    query, policy = model._query(request), model._policy(settings, "t")
    assert [message.role for message in query.messages or ()] == ["system", "user"]
    assert (policy.max_tokens, policy.temperature, policy.stop) == (9, 0.5, ("\n",))


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    from taketurns.integrations.lm_eval import TeamLM

    model = TeamLM(team="pocket", speaker="aligned")
    yield model
    model._team.close()


def asks(prompts: list[str], settings: dict[str, Any]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance("generate_until", {}, (prompt, settings), i, ("sums", i, 1))
        for i, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize(
    "name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"]
)
@pytest.mark.parametrize("length", [3, "3", 3.0])
def test_the_longest_length_by_any_of_its_names(model: Any, name: str, length: Any) -> None:
    assert model._policy({name: length}, "sums").max_tokens == 3
    (text,) = model.generate_until(asks(["what is 3 + 4 + 5?"], {name: length}))
    (whole,) = model.generate_until(asks(["what is 3 + 4 + 5?"], {name: 96}))
    assert whole.startswith(text)
    assert len(text) < len(whole)


def test_of_several_lengths_the_harnesses_first_counts(model: Any) -> None:
    both = {"max_completion_tokens": 9, "max_tokens": 8, "max_gen_toks": 7}
    assert model._policy(both, "sums").max_tokens == 7


def test_settings_written_as_text_are_read(model: Any) -> None:
    settings = {"temperature": "0.5", "top_p": "0.9", "do_sample": "true", "seed": "4"}
    policy = model._policy(settings, "sums")
    assert (policy.temperature, policy.speaker_top_p, policy.seed) == (0.5, 0.9, 4)
    assert model._policy({"temperature": "0.0"}, "sums").temperature == 0
    assert model._policy({"temperature": 0.5, "do_sample": "false"}, "sums").temperature == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"num_beams": 10}, r"sums: .* num_beams=10; remove it or set it to 1$"),
        ({"temperature": 0.7, "top_k": 5}, r"top_k=5; remove it or set it to 0$"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1"),
        ({"max_length": 90}, r"max_length=90; remove it$"),
        ({"max_tokens": "many"}, "max_tokens must be a whole number of at least 1, not 'many'"),
        ({"max_gen_toks": 0}, "max_gen_toks must be a whole number of at least 1, not 0"),
        ({"max_gen_toks": True}, "max_gen_toks must be a whole number"),
        ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"do_sample": "perhaps"}, "do_sample must be true or false, not 'perhaps'"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(
    model: Any, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        model.generate_until(asks(["what is 3 + 4?"], settings))


def test_settings_without_effect_may_stand(model: Any) -> None:
    settings = {"num_beams": 1, "top_k": 50, "temperature": 0, "repetition_penalty": 1.0, "n": None}
    assert model._policy(settings, "sums").temperature == 0


def test_a_prompt_that_is_too_long_has_an_empty_answer_and_the_others_theirs(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"max_gen_toks": 96}
    prompts = ["what is 3 + 4?", "what is 3 + 4? " * 2000, "what is 5 + 4?"]
    first, long, last = model.generate_until(asks(prompts, settings))
    assert [first, last] == model.generate_until(asks([prompts[0], prompts[2]], settings))
    assert long == ""
    assert all((first, last))
    assert "1 of 3 prompts are too long and have empty answers" in caplog.text
    assert "context" in caplog.text


def test_prompts_that_are_all_too_long_are_an_error(model: Any) -> None:
    with pytest.raises(LengthError, match="context"):
        model.generate_until(asks(["what is 3 + 4? " * 2000], {}))


def test_images_are_refused(model: Any) -> None:
    from lm_eval.api.instance import Instance

    request = Instance("generate_until", {}, ("?", {}, {"visual": []}), 0, ("sums", 0, 1))
    with pytest.raises(UsageError, match="sums: a team reads only text"):
        model.generate_until([request])


def test_the_harnesss_table_has_a_header() -> None:
    """Fault: with an old pytablewriter, which it allows, the columns had no names."""
    from lm_eval.utils import make_table

    results = {"sums": {"alias": "sums", "exact_match,last": 0.5, "exact_match_stderr,last": 0.1}}
    head, *_ = make_table(
        {"results": results, "versions": {"sums": 1}, "n-shot": {"sums": 0}}
    ).splitlines()
    for column in ("Tasks", "Version", "Filter", "n-shot", "Metric", "Value", "Stderr"):
        assert column in head


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
