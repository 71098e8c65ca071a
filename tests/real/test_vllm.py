"""Real models on real vLLM servers write what transformers writes, up to near-ties.

`make real-vllm` sets TAKETURNS_VLLM to vLLM's program; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from taketurns import Policy, Team, Trace
from taketurns.config.answer_format import read_format
from taketurns.config.loading import load_team_config
from taketurns.errors import ConfigError
from taketurns.switchers.simple import FixedSwitcher

from ..vllm.conftest import free_port, launched, program
from ..vllm.test_four import traces
from ..vllm.test_in_process import COMMAND, run, there
from .questions import QUESTIONS
from .reference import Plain, Tie, follow, report

NAMES = ("smollm2", "qwen")
PATCH, BUDGET = 8, 48
NEAR = 0.02  # between two logits: vLLM's kernels add in another order
# Float32 as here, and room for a few answers of the length that is asked for.
FLAGS = ("--max-model-len", "1024", "--dtype", "float32", "--num-gpu-blocks-override", "128",
         "--enforce-eager")  # fmt: skip
ENGINE = {"max_model_len": 1024, "enforce_eager": True}


@pytest.fixture(scope="module")
def team_file(real_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    program()
    folder = tmp_path_factory.mktemp("real-vllm")
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
    candidates = [
        {"name": name, "model": str(real_cache / name), "urls": [url]} for name, url in urls.items()
    ]
    content = {
        "candidates": candidates,
        "switcher": {"kind": "fixed", "sequence": list(NAMES)},
        "engine": {"kind": "http", "timeout": 900, "token_timeout": 300},
    }
    path = folder / "team.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with launched(path, list(urls.values()), folder / "servers.log", FLAGS):
        yield path


@pytest.fixture(scope="module")
def served(team_file: Path) -> Iterator[Team]:
    with Team.load(load_team_config(team_file)) as team:
        yield team


@pytest.fixture(scope="module")
def members(real_cache: Path) -> Mapping[str, Plain]:
    return {name: Plain.load(real_cache / name) for name in NAMES}


def test_check_finds_everything(team_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taketurns", "check", "--team", str(team_file), "--json"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": _source()},
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["fits"], told["problems"]
    assert told["exact"] is False, "the two have different tokenizers"
    for model in told["models"]:
        [server] = model["servers"]
        assert server["abilities"]["token_ids"]
        assert server["abilities"]["exact_scores"]


def _source() -> str:
    return str(Path(__file__).parents[2] / "src")


@pytest.mark.parametrize("name", NAMES)
def test_alone_it_writes_what_transformers_writes(
    served: Team, members: Mapping[str, Plain], name: str
) -> None:
    alone = served.ruled_by(Policy(max_tokens=BUDGET, temperature=0)).alone(name)
    traces = alone.generate(list(QUESTIONS))
    _compare(traces, [members[name]], BUDGET, f"{name} on vLLM, alone")


def test_together_they_write_what_a_plain_loop_writes(
    served: Team, members: Mapping[str, Plain]
) -> None:
    policy = Policy(patch_size=PATCH, max_tokens=BUDGET, temperature=0)
    team = served.ruled_by(policy).switched_by(FixedSwitcher([0, 1]))
    traces = team.generate(list(QUESTIONS))
    _compare(traces, [members[name] for name in NAMES], PATCH, "the two on vLLM, taking turns")


def test_in_one_process_they_write_the_same(
    real_cache: Path, members: Mapping[str, Plain], tmp_path: Path
) -> None:
    """`engine.kind: vllm`, in vLLM's environment."""
    team, questions = tmp_path / "team.yaml", tmp_path / "questions.jsonl"
    content = {
        "candidates": [{"name": name, "model": str(real_cache / name)} for name in NAMES],
        "switcher": {"kind": "fixed", "sequence": list(NAMES)},
        "engine": {"kind": "vllm", "memory": "512 MiB", "vllm": ENGINE},
        "policy": {"patch_size": PATCH, "max_tokens": BUDGET, "temperature": 0},
    }
    team.write_text(yaml.safe_dump(content), encoding="utf-8")
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(QUESTIONS)]
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    written = tmp_path / "written.jsonl"
    run(*there(COMMAND, "generate", "--team", team, "--input", questions, "--output", written))
    _compare(traces(written), [members[name] for name in NAMES], PATCH, "the two in one process")


def test_servers_keep_to_a_format_as_far_as_they_can(served: Team) -> None:
    ask = "Name a river in France and its length in kilometres, as JSON."
    schema = {
        "type": "object",
        "properties": {
            "river": {"type": "string", "maxLength": 20},
            "km": {"type": "integer", "minimum": 1, "maximum": 9999},
        },
        "required": ["river", "km"],
        "additionalProperties": False,
    }
    policy = Policy(max_tokens=80, temperature=0, format=read_format({"json": schema}))
    alone = served.ruled_by(policy).alone("qwen")
    trace = alone.generate(ask)
    assert trace.error is None
    assert trace.finish == "stop"
    jsonschema.validate(json.loads(trace.text), schema)
    print(f"qwen on vLLM by a schema: {trace.text}")

    turns = served.switched_by(FixedSwitcher([0, 1]))
    with pytest.raises(ConfigError, match="from its beginning only"):
        turns.generate(ask, policy=replace(policy, patch_size=8))
    texts = ["Yes, it does.", "No, it does not.", "Yes, it does. Why?"]
    choice = replace(policy, format=read_format({"choice": texts}), patch_size=2)
    trace = turns.generate("Does Paris lie in France?", policy=choice)
    assert trace.error is None
    assert trace.text in texts
    assert len({patch.speaker for patch in trace.patches}) == 2
    print(f"the two on vLLM by a choice: {[patch.text for patch in trace.patches]}")


def _compare(traces: list[Trace], members: list[Plain], patch: int, what: str) -> None:
    assert [trace.error for trace in traces if trace.error] == []
    ties: list[Tie] = []
    for trace in traces:
        ties += follow(trace, members, patch, BUDGET, one_tokenizer=len(members) == 1, near=NEAR)
    assert len(ties) < len(traces), "a near-tie is rare"
    report(ties, f"{what}, {len(traces)} answers")
