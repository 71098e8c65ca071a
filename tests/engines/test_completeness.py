"""A checkpoint is loaded whole or not at all, and `check` sees it in the headers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from taketurns.checkpoints.safetensors_metadata import read_tensors
from taketurns.config.loading import load_team_config
from taketurns.engines.local.completeness import find_fault
from taketurns.engines.local.loading import Weights
from taketurns.errors import ConfigError
from taketurns.generation.check.local import inspect_team
from taketurns.types import ModelSpec

Tensors = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, three_models: dict[str, str]) -> Path:
    return Path(shutil.copytree(three_models["m0"], tmp_path / "spoilt"))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def one_alone(tensors: Tensors) -> Tensors:
    return {"model.norm.weight": tensors["model.norm.weight"]}


def one_less(tensors: Tensors) -> Tensors:
    return {k: v for k, v in tensors.items() if k != "model.layers.1.mlp.up_proj.weight"}


def one_more(tensors: Tensors) -> Tensors:
    return tensors | {"model.layers.0.self_attn.q_proj.bias": tensors["model.norm.weight"].clone()}


def another_shape(tensors: Tensors) -> Tensors:
    return tensors | {"model.norm.weight": tensors["model.norm.weight"][:7].clone()}


def a_value_head(tensors: Tensors) -> Tensors:
    return tensors | {"v_head.summary.weight": tensors["model.norm.weight"].clone()}


def of_the_inner_model(tensors: Tensors) -> Tensors:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_alone, "incomplete: 20 tensors (lm_head.weight, model.embed_tokens.weight, "),
        (one_less, "incomplete: model.layers.1.mlp.up_proj.weight is missing, which transf"),
        (
            one_more,
            "do not fit its config.json: model.layers.0.self_attn.q_proj.bias is left ove",
        ),
        (
            another_shape,
            "do not fit its config.json: model.norm.weight is [7] and should be [64]",
        ),
    ],
)
async def test_what_is_missing_left_over_or_of_another_shape_is_refused(
    folder: Path, three_models: dict[str, str], change: Callable[[Tensors], Tensors], said: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ConfigError) as caught:
        Weights({"b": ModelSpec(str(folder))}).load("b")
    assert str(caught.value).startswith(f"b: cannot load the model '{folder}': its weights ")
    assert said in str(caught.value)
    team = folder.with_name("team.yaml")
    models = {"a": three_models["m0"], "b": str(folder)}
    candidates = [{"name": name, "model": model} for name, model in models.items()]
    team.write_text(json.dumps({"candidates": candidates, "policy": {"max_tokens": 8}}))
    report = await inspect_team(load_team_config(team))
    (problem,) = report.problems
    assert problem.startswith("b: its weights ")
    assert said in problem


@pytest.mark.parametrize("change", [a_value_head, of_the_inner_model, dict])
def test_what_is_known_to_be_harmless_loads(
    folder: Path, change: Callable[[Tensors], Tensors]
) -> None:
    rewrite(folder, change)
    spec = ModelSpec(str(folder))
    assert find_fault(spec, read_tensors(str(folder), None) or ()) is None
    assert Weights({"b": spec}).load("b").model is not None


def make(name: str, **settings: Any) -> Any:
    import transformers

    return {"config_class": getattr(transformers, f"{name}Config"), **settings}


@pytest.mark.parametrize(
    "settings",
    [
        make("Llama", tie_word_embeddings=True),
        make("Mixtral", num_local_experts=2),
        make("Qwen2Moe", num_experts=2, moe_intermediate_size=16, decoder_sparse_step=1),
        make("GPT2", n_embd=64, n_layer=2, n_head=4, n_positions=64),
    ],
)
def test_tied_and_converted_weights_are_whole(
    make_model: Callable[..., Path], settings: dict[str, Any]
) -> None:
    """The experts of a mixture are saved one by one and loaded as one tensor."""
    folder = make_model(**settings)
    spec, tensors = ModelSpec(str(folder)), read_tensors(str(folder), None)
    assert tensors
    assert find_fault(spec, tensors) is None
    assert find_fault(spec, tensors[:-1]) is not None
    assert Weights({"b": spec}).load("b").model is not None
