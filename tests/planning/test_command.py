"""`taketurns plan` as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taketurns.integrations.planning.workload import read_answers

Invoke = Callable[..., tuple[int, str, str]]


def test_every_combination_is_a_row(invoke: Invoke, tmp_path: Path) -> None:
    plot = tmp_path / "plan.png"
    code, out, _ = invoke(
        "plan", "--replicas", "1,2", "--patch", "10,50", "--at-a-time", 16, "--count", 32,
        "--plot", plot, "--json",
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["replicas"], row["patch"]) for row in rows] == [(1, 10), (1, 50), (2, 10), (2, 50)]
    assert rows[0]["cached"] > rows[1]["cached"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_rate_beyond_the_servers_is_marked(invoke: Invoke) -> None:
    code, out, _ = invoke(
        "plan", "--replicas", "1", "--rate", "1,30", "--count", 90, "--concurrency", 2
    )
    assert code == 0
    quiet, busy = (line for line in out.splitlines() if line.strip().startswith(("1 ", "30 ")))
    assert "!" in busy
    assert "!" not in quiet


def test_recorded_answers_are_asked_again(invoke: Invoke, tmp_path: Path) -> None:
    def patch(speaker: int | None, tokens: int, finish: str = "length") -> dict[str, object]:
        return {"speaker": speaker, "token_ids": [0] * tokens, "finish": finish}

    answers = tmp_path / "answers.jsonl"
    record = {"id": "1", "patches": [patch(0, 16), patch(None, 3), patch(2, 7, "stop")]}
    full = {"id": "2", "patches": [patch(0, 16), patch(1, 8), patch(2, 0, "context")]}
    lines = [json.dumps(one) + "\n" for one in (record, full, full)]  # counts once
    answers.write_text("".join(lines), encoding="utf-8")
    assert len(read_answers(answers, 10)) == 2
    code, out, _ = invoke(
        "plan", "--answers", answers, "--replicas", 1, "--count", 10, "--at-a-time", 1, "--json"
    )
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert "patch" not in row
    assert row["requests_an_answer"] == 4
    assert row["tokens_per_second"] / row["answers_per_second"] == pytest.approx(16 + 8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--replicas", "1,x"], "--replicas takes whole numbers separated by commas, not '1,x'"),
        (["--patch", "0"], "--patch takes whole numbers"),
        (["--rate", "5", "--at-a-time", "5"], "give either --rate or --at-a-time"),
        (["--costs", "a100"], "8b-h100 are bundled"),
        (["--replicas", "1", "--plot", "x.png", "--count", "2"], "a plot needs several values"),
        (["--answers", "none.jsonl"], "cannot read none.jsonl"),
    ],
)
def test_a_mistake_is_one_sentence(invoke: Invoke, arguments: list[str], sentence: str) -> None:
    code, _, err = invoke("plan", *arguments)
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize(
    ("costs", "sentence"),
    [
        ({"prefil": 1}, "unknown key 'prefil'; did you mean 'prefill'?"),
        ({"about": "", "decode": [[1, 0.1]]}, "prefill is missing"),
        (
            {"about": "", "decode": [[2, 0.1], [1, 0.1]], "prefill": 0},
            "decode must list increasing numbers of sequences",
        ),
        ({"about": "", "decode": "fast", "prefill": 0}, 'decode has the wrong type: "fast"'),
        (
            {"about": "", "decode": [[1, 0.1]], "prefill": -1},
            "all times must be finite and 0 or more",
        ),
        ([], "costs must be a JSON object"),
    ],
)
def test_costs_are_read_strictly(
    invoke: Invoke, tmp_path: Path, costs: object, sentence: str
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs), encoding="utf-8")
    code, _, err = invoke("plan", "--costs", path)
    assert code == 2
    assert sentence in err
