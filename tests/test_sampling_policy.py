"""`policy.sampling` in a team file: read, changed, refused and written; and in stored runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from taketurns import ConfigError, Policy, SamplingOptions, Team
from taketurns.config.loading import change_policy, load_team_config
from taketurns.config.sampling import sampling_entry
from taketurns.config.team_file import team_yaml
from taketurns.runs.description import describe_run

Invoke = Callable[..., tuple[int, str, str]]
BLOCK: dict[str, Any] = {
    "top_k": 50,
    "min_p": 0.05,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.25,
    "repetition_penalty": 1.1,
    "logit_bias": {5: -100, 7: 2.5},
    "min_tokens": 8,
    "ignore_eos": True,
    "stop_token_ids": [3, 2],
    "skip_special_tokens": False,
}
OPTIONS = SamplingOptions(
    50, 0.05, 0.5, -0.25, 1.1, ((5, -100.0), (7, 2.5)), 8, True, (2, 3), False
)


@pytest.fixture
def team_file(tmp_path: Path) -> Callable[..., Path]:
    def write(sampling: Any) -> Path:
        document = {
            "candidates": [{"name": "a", "model": "org/a"}, {"name": "b", "model": "org/b"}],
            "policy": {"sampling": sampling},
        }
        path = tmp_path / "team.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return write


def test_the_block_is_the_options(team_file: Callable[..., Path]) -> None:
    assert load_team_config(team_file(BLOCK)).policy.sampling == OPTIONS
    assert set(BLOCK) == set(asdict(OPTIONS))  # each key is tried


@pytest.mark.parametrize(
    "nothing", [None, {}, {"top_k": 0}, {"top_k": -1}, {"logit_bias": {5: 0}}, {"min_p": 0.0}]
)
def test_a_block_that_changes_nothing_is_none(team_file: Callable[..., Path], nothing: Any) -> None:
    assert load_team_config(team_file(nothing)).policy == Policy()


def test_single_settings_can_be_changed(team_file: Callable[..., Path]) -> None:
    path = team_file({"min_p": 0.1})
    policy = load_team_config(path, {"policy.sampling.top_k": 50}).policy
    assert policy.sampling == SamplingOptions(top_k=50, min_p=0.1)
    fresh = load_team_config(team_file(None), {"policy.sampling.logit_bias": {9: 1}}).policy
    assert fresh.sampling == SamplingOptions(logit_bias=((9, 1.0),))
    whole = load_team_config(path, {"sampling": {"top_k": 3}}).policy
    assert whole.sampling == SamplingOptions(top_k=3)
    assert change_policy(whole, {"sampling": OPTIONS}).sampling == OPTIONS


def test_it_is_set_on_the_command_line(invoke: Invoke, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"text": "what is 23 + 48?"}\n', encoding="utf-8")
    texts = []
    for more in ([], ["--set", "policy.sampling.top_k=1"]):
        output = tmp_path / f"{len(texts)}.jsonl"
        code, _, err = invoke(
            "generate", "--team", "pocket", "--input", str(questions), "--output", str(output),
            "--set", "policy.temperature=1.9", "--set", "policy.speaker_top_p=1.0",
            "--set", "switcher.kind=fixed", "--set", "switcher.path=null",
            "--set", "switcher.sequence=[sft]", *more,
        )  # fmt: skip
        assert code == 0, err
        texts.append(json.loads(output.read_text(encoding="utf-8"))["text"])
    greedy = (
        Team.load("pocket")
        .alone("sft")
        .generate("what is 23 + 48?", policy=Policy(max_tokens=200, temperature=0.0))
    )
    assert texts[1] == greedy.text != texts[0]
    code, _, err = invoke("check", "--team", "pocket", "--set", "policy.sampling.topk=1")
    assert code == 2
    assert "unknown key 'topk' in policy.sampling; did you mean 'top_k'?" in err


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"top_k": -2}, "sampling.top_k must be at least 1, or 0 for all tokens, not -2"),
        ({"min_p": 1.5}, "sampling.min_p must be between 0 and 1, not 1.5"),
        ({"presence_penalty": 3}, "sampling.presence_penalty must be between -2 and 2, not 3"),
        ({"frequency_penalty": -3}, "sampling.frequency_penalty must be between -2 and 2, not -3"),
        ({"repetition_penalty": 0}, "between 0.01 and 100 (1 changes nothing), not 0"),
        ({"logit_bias": {5: 101}}, "logit_bias of token 5 must be between -100 and 100, not 101"),
        ({"logit_bias": {-1: 1}}, "sampling.logit_bias must have token ids, which are 0 or more"),
        ({"min_tokens": -1}, "sampling.min_tokens must be 0 or more, not -1"),
        ({"stop_token_ids": [-1]}, "sampling.stop_token_ids must be 0 or more"),
    ],
)
def test_a_value_beyond_its_limits_is_named_with_its_line(
    team_file: Callable[..., Path], wrong: dict[str, Any], says: str
) -> None:
    path = team_file(wrong)
    with pytest.raises(ConfigError) as caught:
        load_team_config(path)
    assert says in str(caught.value)
    (line,) = [
        number
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if text.strip().startswith(next(iter(wrong)))
    ]
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"topk": 5}, "unknown key 'topk' in policy.sampling; did you mean 'top_k'?"),
        ({"top_k": "many"}, "policy.sampling.top_k should be a valid integer"),
        ({"logit_bias": {"x": 1}}, "policy.sampling.logit_bias"),
        ([1], "policy.sampling should be"),
    ],
)
def test_a_block_of_another_form_is_refused(
    team_file: Callable[..., Path], wrong: Any, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_team_config(team_file(wrong))
    assert says in str(caught.value)


def test_a_record_that_is_made_in_python_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="min_p must be between"):
        Policy(sampling=SamplingOptions(min_p=2.0))
    with pytest.raises(ConfigError, match="list each token once"):
        Policy(sampling=SamplingOptions(logit_bias=((5, 1.0), (5, 2.0))))
    assert Policy(sampling=SamplingOptions()) == Policy()
    assert hash(Policy(sampling=OPTIONS)) == hash(Policy(sampling=OPTIONS))


def test_a_team_file_that_is_written_has_the_block(
    team_file: Callable[..., Path], tmp_path: Path
) -> None:
    team = load_team_config(team_file(BLOCK))
    text = team_yaml(team, {"kind": "random"}, tmp_path)
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    assert load_team_config(tmp_path / "again.yaml").policy == team.policy
    plain = load_team_config(team_file(None))
    assert "sampling" not in team_yaml(plain, {"kind": "random"}, tmp_path)


def test_a_run_s_manifest_has_the_block_only_where_it_is_used(
    team_file: Callable[..., Path],
) -> None:
    """So runs that were stored before there were options go on."""
    plain = load_team_config(team_file(None))
    record = describe_run("generate", plain, b"").inputs["policy"]
    assert "sampling" not in record
    assert set(record) == {
        *("closing", "closing_cue", "closing_on_end", "greedy_switcher", "max_tokens", "opening"),
        *("patch_size", "seed", "speaker_top_p", "stop", "temperature", "top_p"),
    }
    used = load_team_config(team_file({"top_k": 5, "logit_bias": {7: 1}}))
    record = describe_run("generate", used, b"").inputs["policy"]
    assert record["sampling"] == {"top_k": 5, "logit_bias": {"7": 1.0}}
    assert json.loads(json.dumps(record)) == record


def test_only_what_changes_something_is_written_down() -> None:
    assert sampling_entry(None) == sampling_entry(SamplingOptions()) == {}
    assert sampling_entry(OPTIONS) == BLOCK | {"stop_token_ids": [2, 3]}
    assert sampling_entry(replace(SamplingOptions(), min_p=0.5)) == {"min_p": 0.5}
