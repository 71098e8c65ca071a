"""What vLLM gives back, and what is no answer."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from taketurns.engines.vllm import library
from taketurns.engines.vllm.outputs import read_prompt, read_tokens
from taketurns.errors import EngineError, NotANumberError
from taketurns.types import Token

Invoke = Callable[..., tuple[int, str, str]]


def output(*reported: dict[int, float], finish: str | None = None) -> Any:
    logprobs = [
        {token: SimpleNamespace(logprob=value) for token, value in each.items()}
        for each in reported
    ]
    ids = [next(iter(each)) for each in reported]
    done = SimpleNamespace(token_ids=ids, logprobs=logprobs, finish_reason=finish)
    return SimpleNamespace(outputs=[done])


def test_the_most_probable_tokens_are_ranked_and_the_written_one_is_apart() -> None:
    found = list(read_tokens(output({9: -4.0, 2: -0.5, 3: -1.0}), "m", 2, ()))
    assert found == [(Token(9, logprob=-4.0, top=((2, -0.5), (3, -1.0))), None)]


def test_given_tokens_have_their_scores_in_the_order_asked() -> None:
    found = list(read_tokens(output({9: -4.0, 2: -inf, 3: -1.0}), "m", None, (3, 2)))
    assert found == [(Token(9), (-1.0, -inf))]


def test_tokens_of_several_steps_come_one_by_one() -> None:
    found = list(read_tokens(output({1: -1.0}, {2: -2.0}), "m", 0, ()))
    assert [token.id for token, _ in found] == [1, 2]
    assert [token.top for token, _ in found] == [(), ()]


@pytest.mark.parametrize("value", [nan, 3.0, inf])
def test_what_is_no_log_probability_is_an_error_of_the_model(value: float) -> None:
    with pytest.raises(NotANumberError, match=r"m gave .* for a log-probability.*float32"):
        list(read_tokens(output({1: value}), "m", 0, ()))


@pytest.mark.parametrize("finish", ["abort", "error"])
def test_a_request_that_vllm_gives_up_is_an_error(finish: str) -> None:
    reading = read_tokens(output({1: -1.0}, finish=finish), "m", None, ())
    assert next(reading) == (Token(1), None)
    with pytest.raises(EngineError, match=f"vLLM gave up a request of m .{finish}"):
        next(reading)


def test_a_prompts_first_token_has_no_probability() -> None:
    entry = {6: SimpleNamespace(logprob=-2.0), 8: SimpleNamespace(logprob=-1.0)}
    assert read_prompt([5, 6], [None, entry], "m", 1) == (
        Token(5),
        Token(6, logprob=-2.0, top=((8, -1.0),)),
    )


@pytest.mark.parametrize("command", ["check", "generate --input {questions} --output {out}"])
def test_a_command_says_at_once_that_vllm_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., Path],
    invoke: Invoke,
    tmp_path: Path,
    command: str,
) -> None:
    monkeypatch.setattr(library, "installed", lambda name: False)
    questions, team = tmp_path / "questions.jsonl", tmp_path / "team.yaml"
    questions.write_text('{"id": "1", "text": "1+1?"}\n')
    entries = [{"name": name, "model": str(make_model())} for name in ("a", "b")]
    team.write_text(yaml.safe_dump({"candidates": entries, "engine": {"kind": "vllm"}}))
    made = [
        part.format(questions=questions, out=tmp_path / "out.jsonl") for part in command.split()
    ]
    code, _, err = invoke(*made, "--team", team)
    assert code == 2
    assert "needs vLLM, which is not installed: pip install vllm" in err
    assert not (tmp_path / "out.jsonl").exists()
