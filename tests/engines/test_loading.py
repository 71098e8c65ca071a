"""Weights that do not load end a run with a sentence, before anything is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns.engines.local import loading
from taketurns.errors import CapacityError
from taketurns.types import ModelSpec

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, three_models: dict[str, str]) -> Path:
    """Where a team's files are: `m0` is whole, `other` is like it, to be spoiled."""
    for name in ("m0", "other"):
        shutil.copytree(three_models["m0"], tmp_path / name)
    lines = [json.dumps({"id": str(number), "text": "hi"}) + "\n" for number in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    return tmp_path


def write_team(folder: Path, **sections: Any) -> Path:
    plain = [{"name": "a", "model": str(folder / "m0")}, {"name": "b", "model": str(folder / "m0")}]
    team = {"candidates": plain, "policy": {"patch_size": 4, "max_tokens": 8}, **sections}
    (folder / "team.yaml").write_text(json.dumps(team))
    return folder / "team.yaml"


def other(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"name": "b", "model": str(folder / "other"), **settings}


def cut(folder: Path) -> None:
    weights = folder / "other" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def remove(folder: Path) -> None:
    (folder / "other" / "model.safetensors").unlink()


def leave(folder: Path) -> None:
    """The weights are not what is wrong."""


@pytest.mark.parametrize(
    ("spoil", "settings", "said"),
    [
        (cut, {}, "header"),
        (remove, {}, "no file named model.safetensors"),
        (leave, {"dtype": "float99"}, "dtype 'float99' is not one of torch's"),
        (leave, {"attn_implementation": "nonsense"}, "is not supported"),
        (leave, {"device": "nowhere"}, "cannot load the model"),
        pytest.param(
            *(leave, {"device": "cuda"}, "cannot load the model"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        pytest.param(
            *(leave, {"quantization_config": {"load_in_4bit": True}}, "bitsandbytes"),
            marks=pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="it is there"),
        ),
    ],
)
def test_weights_that_do_not_load_are_one_sentence(
    invoke: Invoke,
    folder: Path,
    spoil: Callable[[Path], None],
    settings: dict[str, Any],
    said: str,
) -> None:
    spoil(folder)
    sound = {"name": "a", "model": str(folder / "m0")}
    team = write_team(folder, candidates=[sound, other(folder, **settings)])
    output = folder / "out"
    generate = ("generate", "-t", team, "-i", folder / "prompts.jsonl", "-o", output)
    before = sorted(folder.iterdir())
    for command in (
        generate,
        ("rollout", "-t", team, "--task", "recall", "-o", output, "--prefixes", 2),
    ):
        code, out, err = invoke(*command)
        assert (code, out) == (2, ""), err
        sentence = err.splitlines()[-1]
        assert sentence.startswith("taketurns: ")
        assert said in sentence
        assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "section",
    [
        {"switcher": {"kind": "lm", "model": "other"}},
        {"guard": {"to": "a", "model": "other"}},
        {"switcher": {"kind": "lm", "model": "m0", "adapter": "other"}},
    ],
)
def test_the_switchers_and_the_judges_weights_count_too(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any]
) -> None:
    cut(folder)
    monkeypatch.chdir(folder)
    shutil.copy("other/model.safetensors", "other/adapter_model.safetensors")
    adapter = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    Path("other/adapter_config.json").write_text(json.dumps(adapter))
    text = json.dumps(section).replace('"other"', '"./other"').replace('"m0"', '"./m0"')
    team = write_team(folder, **json.loads(text))
    code, _, err = invoke("generate", "-t", team, "-i", "prompts.jsonl", "-o", "out.jsonl")
    assert code == 2, err
    assert re.search("cannot load the .*other|other/.* is not a safetensors file", err)
    assert not list(folder.glob("out*"))


def test_a_finished_run_loads_nothing(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = write_team(folder)
    command = ("generate", "-t", team, "-i", folder / "prompts.jsonl", "-o", folder / "out.jsonl")
    assert invoke(*command)[0] == 0

    def refuse(*arguments: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(loading, "pretrained", refuse)
    assert invoke(*command)[0] == 0


def test_too_little_memory_is_not_the_checkpoints_fault(
    three_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(CapacityError, match="no memory left to load the model"):
        loading.Weights({"m0": ModelSpec(three_models["m0"])}).load("m0")
