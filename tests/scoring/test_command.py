"""`taketurns score` and `taketurns tasks` as a person uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taketurns.engines.scripted import ScriptedEngine
from taketurns.generation.team import Team
from taketurns.switchers.simple import RandomSwitcher

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten questions in the authors' format."""
    rows = [{"id": n, "input": f"{n} + 1?", "output": str(n + 1)} for n in range(10)]
    path = tmp_path / "gsm8k.json"
    path.write_text(json.dumps({"dev": [], "test": rows}))
    return path


def answers(folder: Path, texts: dict[str, Any]) -> Path:
    path = folder / "answers.jsonl"
    lines = [
        json.dumps({"id": id_, **(said if isinstance(said, dict) else {"text": said})})
        for id_, said in texts.items()
    ]
    path.write_text("\n".join(lines))
    return path


def next_number(prompt: str, sampling: object) -> str:
    found = re.search(r"(\d+) \+ 1", prompt)
    assert found is not None
    return f"It is {int(found[1]) + 1}."


def right(n: int) -> str:
    return f"The answer is {n + 1}."


def test_answers_are_scored(invoke: Invoke, data: Path, tmp_path: Path) -> None:
    texts = {str(n): right(n) for n in range(7)}
    texts |= {"gsm8k/7": "It is 3.", "8": "Who knows?", "9": ""}
    given, records = answers(tmp_path, texts), tmp_path / "records.jsonl"
    code, out, _ = invoke(
        "score",
        "--task",
        "gsm8k",
        "--data",
        data,
        "--answers",
        given,
        "--output",
        records,
        "--json",
    )
    assert code == 0
    result = json.loads(out)
    assert (result["task"], result["split"], result["scorer"]) == ("gsm8k", "test", "mathematics")
    assert (result["n"], result["mean"]) == (10, 0.7)
    assert result["interval"] == pytest.approx([0.3968, 0.8922], abs=1e-3)  # Wilson, 7 of 10
    assert (result["parse_failures"], result["parse_failure_rate"]) == (2, 0.2)
    scores = [json.loads(line) for line in records.read_text().splitlines()]
    assert [score["value"] for score in scores] == [1] * 7 + [0] * 3
    assert scores[7]["answer"] == "3"
    assert not scores[8]["parsed"]


def test_a_person_reads_a_table_and_standard_input_works(invoke: Invoke, data: Path) -> None:
    lines = "\n".join(json.dumps({"id": n, "text": right(n)}) for n in range(3))
    code, out, _ = invoke(
        "score", "--task", "gsm8k", "--data", data.parent, "--answers", "-", "--limit", "3",
        stdin=lines.encode(),
    )  # fmt: skip
    assert code == 0
    assert "1.000 (95 %" in out
    assert "0 of 3" in out


def test_the_authors_scoring_can_be_compared(invoke: Invoke, data: Path, tmp_path: Path) -> None:
    given = answers(tmp_path, {str(n): f"The answer is -{n + 1}" for n in range(10)})
    common = ["score", "--task", "gsm8k", "--data", data, "--answers", given, "--json"]
    assert json.loads(invoke(*common)[1])["mean"] == 0
    theirs = json.loads(invoke(*common, "--scoring", "moco")[1])
    assert (theirs["mean"], theirs["scorer"]) == (1, "moco-exact_match")


def test_what_generate_writes_can_be_scored(
    invoke: Invoke, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(config: Any) -> Team:
        names = [candidate.name for candidate in config.candidates]
        script = dict.fromkeys(names, next_number)
        return Team(config.candidates, ScriptedEngine(script), RandomSwitcher(), config.policy)

    monkeypatch.setattr(Team, "load", load)
    written = tmp_path / "written.jsonl"
    asked = ["--task", "gsm8k", "--data", data]
    code, _, _ = invoke("generate", "--team", "pocket", *asked, "--output", written)
    assert code == 0
    assert json.loads(invoke("score", *asked, "--answers", written, "--json")[1])["mean"] == 1


def test_a_task_of_ones_own_can_be_rolled_out(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(config: Any) -> Team:
        script = {c.name: [f"{len(c.name)}"] for c in config.candidates}  # aligned says 7
        return Team(config.candidates, ScriptedEngine(script), RandomSwitcher(), config.policy)

    monkeypatch.setattr(Team, "load", load)
    rows = [
        {"id": n, "text": f"Which is number {n}?", "reference": "7", "split": "train"}
        for n in range(3)
    ]
    (tmp_path / "sevens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sevens.yaml").write_text("name: sevens\ndata: sevens.jsonl\nscorer: mathematics\n")
    output = tmp_path / "rollouts.jsonl"
    asked = ["--task", tmp_path / "sevens.yaml", "--prefixes", "3", "--k", "2", "-o", output]
    code, _, err = invoke("rollout", *asked)
    assert code == 0, err
    for line in output.read_text().splitlines():
        record = json.loads(line)
        assert record["task"] == "sevens"
        utilities = [set(branch["utilities"]) for branch in record["branches"]]
        assert utilities == [{0.0}, {0.0}, {1.0}]  # pretrained, sft, aligned


def test_generate_wants_prompts_or_a_task(invoke: Invoke) -> None:
    code, _, err = invoke("generate", "--team", "pocket", "--output", "-")
    assert code == 2
    assert "either --input FILE or --task NAME" in err


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ({str(n): "1" for n in range(9)}, "answers 9 of 10 questions; the first .* 'gsm8k/9'"),
        ({str(n): "1" for n in range(11)}, r":11: no question has the id '10'; .* such as 'gsm8k"),
        ({"0": "1", "gsm8k/0": "1"}, ":2: line 1 already has an answer with the id 'gsm8k/0'"),
        ({"0": {"text": 5}}, ":1: the field 'text' must be a text"),
        ({"0": {"texts": ["a"]}}, ":1: this task takes one answer per question"),
        ({"0": {}}, ":1: the field 'text' must be a text"),
    ],
)
def test_answers_that_do_not_match_the_questions_are_refused(
    invoke: Invoke, data: Path, tmp_path: Path, texts: dict[str, Any], complaint: str
) -> None:
    given = answers(tmp_path, texts)
    code, out, err = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given)
    assert (code, out) == (2, "")
    assert re.search(complaint, err)


def test_a_line_that_is_there_twice_counts_once(invoke: Invoke, data: Path, tmp_path: Path) -> None:
    given = answers(tmp_path, {str(n): "1" for n in range(10)})
    scored = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given, "--json")
    given.write_text(f"{given.read_text().strip()}\n" * 2)
    again = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given, "--json")
    assert scored[0] == 0
    assert again == scored
    given.write_text(given.read_text().replace('"1"', '"2"', 1))
    code, _, err = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given)
    assert code == 2
    assert "line 1 already has an answer" in err


def test_lines_that_are_none_are_refused(invoke: Invoke, data: Path, tmp_path: Path) -> None:
    for text, complaint in [("{", "not JSON"), ("[1]", "a line must be an object")]:
        (tmp_path / "answers.jsonl").write_text(text)
        given = tmp_path / "answers.jsonl"
        code, _, err = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given)
        assert code == 2
        assert f"answers.jsonl:1: {complaint}" in err


def test_several_answers_to_a_question_where_they_are_judged_together(
    invoke: Invoke, tmp_path: Path
) -> None:
    rows = [{"id": n, "input": f"Line {n}?", "output": ""} for n in range(2)]
    name = "infinite_chat_diversity"
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"dev": [], "test": rows}))
    given = answers(
        tmp_path, {"0": {"texts": ["the same"] * 3}, "1": {"texts": ["one thing", "other stuff"]}}
    )
    code, out, _ = invoke("score", "--task", name, "--data", path, "--answers", given, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["n"], result["answers"]) == (2, 5)
    assert result["mean"] == pytest.approx(0.5, abs=0.01)


def test_an_answer_that_failed_has_no_score(invoke: Invoke, data: Path, tmp_path: Path) -> None:
    texts: dict[str, Any] = {str(n): right(n) for n in range(9)}
    given = answers(tmp_path, texts | {"9": {"error": "the server died"}})
    _, out, _ = invoke("score", "--task", "gsm8k", "--data", data, "--answers", given, "--json")
    result = json.loads(out)
    assert (result["mean"], result["unscored"], result["n"]) == (1, 1, 10)


def test_tasks_lists_what_there_is(invoke: Invoke) -> None:
    code, out, _ = invoke("tasks", "--json")
    assert code == 0
    listed = json.loads(out)
    assert {"recall", "gsm8k", "coconot"} <= {task["task"] for task in listed["tasks"]}
    assert listed["scorers"]["reward"] == ["model", "revision", "batch"]
    code, out, _ = invoke("tasks")
    assert "openai/gsm8k" in out
    assert "(unverified)" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--task", "gsm8"], "there is no task 'gsm8'"),
        (["--task", "recall", "--with", "model=x"], "'recall' has no settings"),
        (["--task", "recall", "--scoring", "moco"], "is only for the paper's benchmarks"),
        (["--task", "recall", "--data", "."], "has its own data"),
        (["--task", "gsm9k", "--data", "."], "there is no task 'gsm9k'; the tasks are recall"),
    ],
)
def test_wrong_options_are_refused(invoke: Invoke, arguments: list[str], complaint: str) -> None:
    code, _, err = invoke("score", *arguments, "--answers", "none.jsonl")
    assert code == 2
    assert complaint in err
