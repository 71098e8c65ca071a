"""From a team file to vLLM's arguments, and what is refused on the way."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import EngineConfig
from taketurns.config.team_file import team_yaml
from taketurns.engines.base import ModelInfo
from taketurns.engines.vllm import library
from taketurns.engines.vllm.arguments import context_of, further_arguments, model_arguments
from taketurns.engines.vllm.requests import writing_parameters
from taketurns.errors import ConfigError
from taketurns.types import Candidate, ModelSpec, Sampling, SamplingOptions

from .fake import AsyncEngineArgs

KNOWN = frozenset(field.name for field in fields(AsyncEngineArgs))


def settings(**vllm: Any) -> EngineConfig:
    return EngineConfig(kind="vllm", vllm=vllm)


def candidate(model: str, **spec: Any) -> Candidate:
    return Candidate("a", ModelSpec(model, **spec))


def test_a_models_own_arguments_go_before_the_engines() -> None:
    model = candidate("m", vllm={"block_size": 64})
    given = further_arguments(model, settings(block_size=16, max_num_seqs=8), KNOWN)
    assert given == {"block_size": 64, "max_num_seqs": 8}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_model_length", 8, "did you mean 'max_model_len'"),
        ("zzzz", 8, "see vLLM's documentation"),
        ("dtype", "half", "set by the key dtype of a model"),
        ("device_ids", [1], "set by the key device of a model"),
        ("runner", "pooling", "a team's models write text"),
    ],
)
def test_arguments_that_are_not_vllms_or_not_free_are_refused(
    name: str, value: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=f"a: .*{name}.*{says}"):
        further_arguments(candidate("m"), settings(**{name: value}), KNOWN)


def test_an_adapter_needs_adapters_switched_on() -> None:
    with pytest.raises(ConfigError, match="has an adapter, but enable_lora is false"):
        further_arguments(candidate("m", adapter="x"), settings(enable_lora=False), KNOWN)


def test_defaults_are_those_of_the_local_engine(make_model: Callable[..., Path]) -> None:
    model = candidate(str(make_model()))
    here = model_arguments(model, {}, cpu=True)
    assert (here["dtype"], here["max_model_len"], here["block_size"]) == ("float32", 512, 32)
    assert not here["enable_chunked_prefill"]
    there = model_arguments(candidate(model.spec.model, device="cuda:3"), {}, cpu=False)
    assert (there["dtype"], there["device_ids"]) == ("float32", [3])
    assert "block_size" not in there
    assert model_arguments(model, {"block_size": 64}, cpu=True)["block_size"] == 64


@pytest.mark.parametrize(
    ("spec", "cpu", "says"),
    [
        ({"device": "cuda"}, True, "was built for the CPU: write cpu, or auto"),
        ({"device": "cpu"}, False, "runs on GPUs"),
        ({"device": "mps"}, False, "runs on GPUs"),
        ({"gguf_file": "x.gguf"}, True, "no gguf_file"),
        ({"device_map": "auto"}, False, "tensor_parallel_size"),
        ({"quantization_config": {"load_in_8bit": True}}, False, "no quantization_config"),
        ({"attn_implementation": "eager"}, False, "attention_backend"),
    ],
)
def test_what_vllm_has_not_is_refused(
    make_model: Callable[..., Path], spec: dict[str, Any], cpu: bool, says: str
) -> None:
    folder = str(make_model())
    with pytest.raises(ConfigError, match=f"a: .*{says}"):
        model_arguments(candidate(folder, **spec), {}, cpu=cpu)


def test_the_context_is_the_shorter_of_the_models_and_the_wanted_one(
    make_model: Callable[..., Path],
) -> None:
    model = candidate(str(make_model()))
    assert context_of(model, settings()) == 512
    assert context_of(model, settings(max_model_len=100)) == 100
    assert context_of(model, settings(max_model_len=4096)) == 512


def test_sampling_becomes_vllms_parameters() -> None:
    info: Any = ModelInfo(
        "a",
        512,
        None,
        frozenset((2,)),
        frozenset(),
        frozenset((9,)),
        vocabulary=300,  # type: ignore[arg-type]
    )
    options = SamplingOptions(top_k=5, stop_token_ids=(7,))
    sampling = Sampling(16, 0.7, 0.9, stop_token_ids=(500,), choices=(3, 4), options=options)
    made = writing_parameters(info, [1, 2], sampling, -1, None, watched=True)
    assert made["max_tokens"] == 17
    assert made["stop_token_ids"] == [2, 7]  # the model has no 500
    assert made["logprob_token_ids"] == [3, 4]
    assert made["logit_bias"] == {9: -100.0}
    assert made["seed"] == (1 << 63) - 1
    assert "stream_interval" not in made
    made = writing_parameters(info, [1], Sampling(16, 0.0, 1.0), 5, None, watched=False)
    assert "seed" not in made
    assert made["stream_interval"] == 16


def team(folder: Path, model: str, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "candidates": [{"name": "a", "model": model}, {"name": "b", "model": model}],
        "engine": {"kind": "vllm"},
    }
    path = folder / "team.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def test_a_team_file_has_arguments_for_all_models_and_for_one(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = str(make_model())
    path = team(
        tmp_path,
        model,
        candidates=[
            {"name": "a", "model": model, "vllm": {"tensor_parallel_size": 2}},
            {"name": "b", "model": model},
        ],
        engine={"kind": "vllm", "memory": "1 GiB", "open_requests": True, "vllm": {"seed": 3}},
    )
    config = load_team_config(path)
    assert config.candidates[0].spec.vllm == {"tensor_parallel_size": 2}
    assert config.engine == EngineConfig(
        kind="vllm", memory_bytes=1 << 30, open_requests=True, vllm={"seed": 3}
    )
    again = tmp_path / "again.yaml"
    again.write_text(team_yaml(config, {}, tmp_path))
    assert load_team_config(again).engine == config.engine
    assert load_team_config(again).candidates == config.candidates


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"kind": "local", "vllm": {"seed": 1}}, 'vllm is a key of kind "vllm"'),
        (
            {"kind": "http", "urls": ["http://x"], "memory": "1 GiB"},
            'memory is a key of kind "local" and "vllm"',
        ),
        ({"kind": "vllm", "threads": 2}, 'threads is a key of kind "local"'),
        ({"kind": "vllm", "urls": ["http://x"]}, 'urls is a key of kind "http"'),
    ],
)
def test_keys_of_another_kind_are_refused(
    make_model: Callable[..., Path], tmp_path: Path, engine: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        load_team_config(team(tmp_path, str(make_model()), engine=engine))


def test_a_models_arguments_need_the_engine(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = str(make_model())
    entry = {"name": "a", "model": model, "vllm": {"seed": 1}}
    path = team(tmp_path, model, candidates=[entry, {"name": "b", "model": model}], engine={})
    with pytest.raises(ConfigError, match=r'vllm needs engine\.kind "vllm"'):
        load_team_config(path)


def test_a_missing_vllm_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"needs vLLM, which is not installed: pip install vllm"):
        library.require_vllm()


@pytest.mark.parametrize(
    ("version", "fine"), [("0.31.2", False), ("0.9.1", False), ("0.32.0+cpu", True), ("1.0", True)]
)
def test_an_old_vllm_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, version: str, fine: bool
) -> None:
    monkeypatch.setattr(library, "installed", lambda name: True)
    monkeypatch.setattr(library, "version", lambda name: version)
    if fine:
        library.require_vllm()
    else:
        with pytest.raises(ConfigError, match=rf"needs vLLM 0\.32 or newer, and {version}"):
            library.require_vllm()


def test_a_vllm_that_cannot_be_imported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "require_vllm", lambda: None)
    monkeypatch.setitem(sys.modules, "vllm", None)
    for name in (library._SPAWN[0], *library._ENVIRONMENT):
        monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=r"cannot be imported .*: install a version that fits"):
        library.import_vllm()


def test_a_script_that_starts_vllm_when_it_is_imported_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a process of vLLM's that `multiprocessing` has just begun."""
    monkeypatch.setattr(library, "require_vllm", lambda: None)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="put what the script does under if __name__"):
        library.import_vllm()
