"""An adapter that does not fit its model is refused in one sentence, by `check` and by loading
alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from taketurns.config.loading import load_team_config
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.engines.local.loading import Weights
from taketurns.errors import ConfigError
from taketurns.generation.check.local import inspect_team
from taketurns.types import ModelSpec

Tensors = dict[str, Any]
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def sound(three_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of m0."""
    return lora(three_models["m0"], tmp_path_factory.mktemp("sound"))


def lora(model: str | Path, folder: Path, vocabulary: int | None = None, **settings: Any) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model)
    if vocabulary is not None:
        base.resize_token_embeddings(vocabulary)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, **settings)
    with asked_by_an_old_name():
        save = get_peft_model(base, config).save_pretrained
    save(folder, save_embedding_layers=vocabulary is not None)
    return folder


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return folder


def copied(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "adapter"))


def a_whole_model(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    return models["m1"]


def nothing(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    return str(tmp_path)


def resized(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    return str(lora(models["m0"], tmp_path / "adapter", vocabulary=300))


def resized_and_kept(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    kept = ["embed_tokens", "lm_head"]
    return str(lora(models["m0"], tmp_path / "adapter", vocabulary=300, modules_to_save=kept))


def of_a_deeper_model(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    def deeper(tensors: Tensors) -> Tensors:
        more = {k.replace("layers.1", "layers.2"): v.clone() for k, v in tensors.items()}
        return more | tensors

    return str(rewrite(copied(sound, tmp_path), deeper))


def half(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    def fewer(tensors: Tensors) -> Tensors:
        return {key: value for key, value in tensors.items() if "lora_B" not in key}

    return str(rewrite(copied(sound, tmp_path), fewer))


def of_a_wider_model(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    def wider(tensors: Tensors) -> Tensors:
        return {key: value.repeat(2, 2) for key, value in tensors.items()}

    return str(rewrite(copied(sound, tmp_path), wider))


def a_soft_prompt(models: dict[str, str], sound: Path, tmp_path: Path) -> str:
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models["m0"])
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with asked_by_an_old_name():
        get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_whole_model, "it is a whole model: write it under model, and remove adapter"),
        (nothing, "it has no adapter_config.json, so it is not an adapter"),
        (resized, "weight from [262, 64] to [300, 64]: merge it into a"),
        (resized_and_kept, "it resized the model's "),
        (
            of_a_deeper_model,
            "it was trained on another model: this one has no model.layers.2.self_attn.q_proj.lo",
        ),
        (half, "its weights are incomplete: base_model.model.model.layers.0.self_attn.q_proj.lora"),
        (of_a_wider_model, "size mismatch for base_model.model.model.layers.0.self_attn.q_proj"),
        (a_soft_prompt, "its kind PROMPT_TUNING puts tokens before a prompt"),
    ],
)
async def test_what_does_not_fit_is_refused(
    three_models: dict[str, str],
    sound: Path,
    tmp_path: Path,
    make: Callable[[dict[str, str], Path, Path], str],
    said: str,
) -> None:
    adapter = make(three_models, sound, tmp_path)
    with pytest.raises(ConfigError) as caught:
        Weights({"b": ModelSpec(three_models["m0"], adapter=adapter)}).load("b")
    sentence = str(caught.value)
    assert sentence.startswith(f"b: cannot load the adapter '{adapter}': ")
    assert said in sentence
    report = await inspect_team(load_team_config(team(tmp_path, three_models, adapter=adapter)))
    (problem,) = report.problems
    assert problem.startswith(f"b: cannot load the adapter '{adapter}': ")
    assert said in problem


async def test_a_sound_one_fits(three_models: dict[str, str], sound: Path, tmp_path: Path) -> None:
    report = await inspect_team(load_team_config(team(tmp_path, three_models, adapter=str(sound))))
    assert report.fits
    assert report.models[1].shares_weights
    plain, spec = ModelSpec(three_models["m0"]), ModelSpec(three_models["m0"], adapter=str(sound))
    weights = Weights({"a": plain, "b": spec})
    assert weights.load("a").model is weights.load("b").model


def test_weights_that_others_share_are_not_written_over(
    three_models: dict[str, str], sound: Path, tmp_path: Path
) -> None:
    """Fault: PEFT copies embeddings of the same size into the model itself."""
    key = "base_model.model.model.embed_tokens.weight"
    embeddings = load_file(Path(three_models["m0"]) / "model.safetensors")[key[17:]]
    adapter = copied(sound, tmp_path)
    plain, spec = ModelSpec(three_models["m0"]), ModelSpec(three_models["m0"], adapter=str(adapter))
    rewrite(adapter, lambda tensors: tensors | {key: embeddings})
    assert Weights({"a": plain, "b": spec}).load("b").model is not None
    rewrite(adapter, lambda tensors: tensors | {key: embeddings + 1})
    with pytest.raises(ConfigError, match=r"changes the model's own .*embed_tokens.* others share"):
        Weights({"a": plain, "b": spec}).load("b")
    assert Weights({"b": spec}).load("b").model is not None


async def test_an_adapter_that_is_named_as_the_model_says_so(
    three_models: dict[str, str], sound: Path, tmp_path: Path
) -> None:
    said = "it is an adapter; name the model that it was trained on"
    with pytest.raises(ConfigError, match=said):
        Weights({"b": ModelSpec(str(sound))}).load("b")
    with pytest.raises(ConfigError, match=f"b: cannot load the model .*{said}"):
        await inspect_team(load_team_config(team(tmp_path, three_models, model=str(sound))))


def team(folder: Path, models: dict[str, str], **keys: str) -> Path:
    file = folder / "team.yaml"
    candidates = [
        {"name": "a", "model": models["m0"]},
        {"name": "b", "model": models["m0"], **keys},
    ]
    file.write_text(json.dumps({"candidates": candidates, "policy": {"max_tokens": 8}}))
    return file
