"""The weights that are merged, measured and fingerprinted are those that transformers loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from taketurns.checkpoints.model_config import suppressed_token_ids
from taketurns.checkpoints.safetensors_metadata import read_tensors
from taketurns.checkpoints.weight_files import weight_files
from taketurns.config.loading import load_team_config
from taketurns.errors import ConfigError, UsageError
from taketurns.evaluation.methods.checkpoints import CheckpointTensors
from taketurns.generation.check.local import inspect_team
from taketurns.runs.description import fingerprint
from taketurns.types import ModelSpec

NORM = "model.norm.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path, three_models: dict[str, str]) -> Path:
    return Path(shutil.copytree(three_models["m0"], tmp_path / "model"))


def shards(folder: Path, index: str = INDEX, under: str = "", value: float = 7.0) -> None:
    """The same tensors with another norm, in two files of an index."""
    tensors = load_file(folder / "model.safetensors")
    tensors[NORM] = torch.full_like(tensors[NORM], value)
    names, half = sorted(tensors), len(tensors) // 2
    parts = {f"{under}a.safetensors": names[:half], f"{under}b.safetensors": names[half:]}
    for file, own in parts.items():
        (folder / file).parent.mkdir(exist_ok=True)
        save_file({name: tensors[name] for name in own}, folder / file, {"format": "pt"})
    where = {name: file for file, own in parts.items() for name in own}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def explicit(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))


def beside_an_index(folder: Path) -> None:
    shards(folder)


def an_index_alone(folder: Path) -> None:
    shards(folder)
    (folder / "model.safetensors").unlink()


def beside_a_pickle(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    torch.save({k: 3 * v for k, v in tensors.items()}, folder / "pytorch_model.bin")


def a_file_of_another_name(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[NORM] = 5 * tensors[NORM]
    save_file(tensors, folder / "ours.safetensors", {"format": "pt"})
    explicit(folder, "ours.safetensors")


def an_index_of_another_name(folder: Path) -> None:
    shards(folder, index="ours.safetensors.index.json")
    explicit(folder, "ours.safetensors.index.json")


def a_tensor_in_two_shards(folder: Path) -> None:
    shards(folder)
    first = load_file(folder / "a.safetensors")
    save_file(first | {NORM: torch.full((64,), 9.0)}, folder / "a.safetensors", {"format": "pt"})
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "make",
    [
        beside_an_index,
        an_index_alone,
        beside_a_pickle,
        a_file_of_another_name,
        an_index_of_another_name,
        a_tensor_in_two_shards,
    ],
    ids=lambda make: make.__name__,
)
def test_what_is_merged_and_checked_is_what_runs(
    folder: Path, make: Callable[[Path], None]
) -> None:
    """Fault: beside an index, an older export's shards were merged while another file ran."""
    make(folder)
    running = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    checkpoint = CheckpointTensors("mine", ModelSpec(str(folder)))
    assert set(checkpoint.files) <= set(running)
    for name in checkpoint.files:
        assert torch.equal(checkpoint.tensor(name), running[name]), name
    shapes = checkpoint.shapes()
    assert {t.name: t.shape for t in read_tensors(str(folder), None) or ()} == shapes
    assert all(shape == tuple(running[name].shape) for name, shape in shapes.items())


def test_weights_in_a_folder_below_are_part_of_the_fingerprint(folder: Path) -> None:
    shards(folder, under="parts/")
    before = fingerprint(ModelSpec(str(folder)))
    shards(folder, under="parts/", value=8.0)
    assert fingerprint(ModelSpec(str(folder))) == before  # which transformers does not read
    shards(folder, under="parts/", index="ours.safetensors.index.json")
    explicit(folder, "ours.safetensors.index.json")
    before = fingerprint(ModelSpec(str(folder)))
    shards(folder, under="parts/", index="ours.safetensors.index.json", value=8.0)
    assert fingerprint(ModelSpec(str(folder))) != before


def test_pickles_are_not_merged_and_no_weights_are_said(folder: Path) -> None:
    beside_a_pickle(folder)
    (folder / "model.safetensors").unlink()
    assert [file.name for file in weight_files(folder)] == ["pytorch_model.bin"]
    assert read_tensors(str(folder), None) is None
    with pytest.raises(UsageError, match="has no safetensors weights"):
        CheckpointTensors("mine", ModelSpec(str(folder)))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ConfigError, match="there are no weights in"):
        read_tensors(str(folder), None)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/model.safetensors", "model.pt"])
def test_weights_outside_the_folder_are_refused(folder: Path, name: str) -> None:
    explicit(folder, name)
    with pytest.raises(
        ConfigError, match=r"transformers_weights is .*; it must name a safetensors"
    ):
        weight_files(folder)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (lambda size: range(size), "names all {size} ids of the vocabulary"),
        (lambda size: [3, size], "names the id {size}, and the model's ids are 0 to {last}"),
        (lambda size: [-1], "names the id -1, and the model's ids are 0 to {last}"),
    ],
    ids=["all", "beyond", "below"],
)
async def test_what_must_not_be_written_is_of_the_vocabulary_and_not_all_of_it(
    folder: Path, tmp_path: Path, three_models: dict[str, str], ids: Any, said: str
) -> None:
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": [*ids(size)]}))
    said = said.format(size=size, last=size - 1)
    with pytest.raises(ConfigError, match=said):
        suppressed_token_ids(ModelSpec(str(folder)))
    team = tmp_path / "team.yaml"
    other = three_models["m1"]
    team.write_text(f"candidates:\n- {{name: a, model: {folder}}}\n- {{name: b, model: {other}}}\n")
    with pytest.raises(ConfigError, match=f"^a: .*{said}") as caught:
        await inspect_team(load_team_config(team))
    assert "\n" not in str(caught.value)


def test_ids_that_a_model_is_not_to_write_are_kept(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": [3, 4]}))
    assert suppressed_token_ids(ModelSpec(str(folder))) == {3, 4}
