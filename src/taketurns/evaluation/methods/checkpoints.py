"""Read checkpoints tensor by tensor, and write a merged one of the same shape.

Memory holds one tensor of each checkpoint and the shard that is being written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.checkpoints import hub
from taketurns.checkpoints.text import TextCodec
from taketurns.checkpoints.weight_files import INDEX, weight_files
from taketurns.errors import UsageError, one_line
from taketurns.types import ModelSpec
from taketurns.utils.files import atomic_folder, require_room, trial_folder
from taketurns.utils.locks import lock_when_free

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 4 << 30

Merge = Callable[[str, Sequence["Tensor"]], "Tensor"]
"""A function from a tensor's name and its value in each checkpoint, in float32, to the merged
tensor."""


class CheckpointTensors:
    """The tensors of a model's folder or hub id, by name; of an adapter's model as they are without
    the adapter (`whole_checkpoint` has both)."""

    def __init__(self, name: str, spec: ModelSpec) -> None:
        if spec.gguf_file is not None:
            raise UsageError(
                f"candidate {name} is a GGUF file, which cannot be merged: name the checkpoint "
                "that it was made from, or leave this method out"
            )
        self.name = name
        self.spec = spec
        self.folder = _folder(spec)
        files = weight_files(self.folder)
        if not files or any(file.suffix != ".safetensors" for file in files):
            raise UsageError(
                f"candidate {name} has no safetensors weights in {self.folder}, and only those are "
                "merged: save it as safetensors, or leave this method out"
            )
        self.files: Mapping[str, Path] = {tensor: file for file in files for tensor in _names(file)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, from the files' headers."""
        from safetensors import safe_open

        shapes = {}
        for file in sorted(set(self.files.values())):
            with safe_open(file, framework="pt") as opened:
                for tensor in opened.keys():  # noqa: SIM118  # not a mapping
                    if self.files[tensor] == file:
                        shapes[tensor] = tuple(opened.get_slice(tensor).get_shape())
        return shapes

    def tensor(self, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self.files[name], framework="pt") as opened:
            return opened.get_tensor(name)  # type: ignore[no-any-return]


def check_mergeable(checkpoints: Sequence[CheckpointTensors]) -> None:
    """Raise UsageError for the first tensor whose shape is not the same in all of them."""
    first, *others = checkpoints
    shapes = first.shapes()
    for other in others:
        theirs = other.shapes()
        for tensor in sorted({*shapes, *theirs}):
            mine, yours = shapes.get(tensor), theirs.get(tensor)
            if mine != yours:
                raise UsageError(
                    f"{first.name} and {other.name} cannot be merged: the shape of {tensor} is "
                    f"{_shape(mine)} in {first.name} and {_shape(yours)} in {other.name}; leave "
                    "this method out"
                )


def merge(
    checkpoints: Sequence[CheckpointTensors], how: Merge, like: CheckpointTensors, folder: Path
) -> ModelSpec:
    """Write the merged checkpoint to `folder`, with the configuration, tokenizer and prompt of
    `like`. An existing folder is complete and is not written again."""
    spec = replace(like.spec.with_model(str(folder)), adapter=None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_when_free(folder):
        if not folder.exists():
            with atomic_folder(folder) as draft:
                _write_rest(like, draft)
                _write_weights(checkpoints, how, draft)
    return spec


def rehearse_merge(like: CheckpointTensors, folder: Path) -> None:
    """Write a merged checkpoint without its weights under `folder` and remove it again. Raises
    UsageError if that fails, DataError if the disk has no room for the weights."""
    try:
        with trial_folder(folder) as made:
            _write_rest(like, made)
    except Exception as error:  # any kind: the checkpoint or the folder causes it
        raise UsageError(
            f"a merged checkpoint cannot be saved with the configuration and tokenizer of "
            f"{like.name} in {folder}: {one_line(error)}"
        ) from error
    weights = sum(file.stat().st_size for file in set(like.files.values()))
    require_room(folder, weights, "a merged checkpoint")


def _write_weights(checkpoints: Sequence[CheckpointTensors], how: Merge, folder: Path) -> None:
    from safetensors.torch import save_file

    shard: dict[str, Any] = {}
    files: dict[str, str] = {}
    size = total = number = 0

    def flush() -> None:
        nonlocal shard, size, number
        number += 1
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        files.update(dict.fromkeys(shard, name))
        shard, size = {}, 0

    for tensor in sorted(checkpoints[0].files):
        tensors = [checkpoint.tensor(tensor) for checkpoint in checkpoints]
        merged = how(tensor, [part.float() for part in tensors]).to(tensors[0].dtype).contiguous()
        if shard and size + merged.nbytes > SHARD_BYTES:
            flush()
        shard[tensor] = merged
        size, total = size + merged.nbytes, total + merged.nbytes
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _write_rest(like: CheckpointTensors, folder: Path) -> None:
    from transformers import AutoConfig

    spec = like.spec
    trust = spec.trust_remote_code
    config = AutoConfig.from_pretrained(like.folder, trust_remote_code=trust)
    config.save_pretrained(folder)
    local = replace(spec, model=str(like.folder), revision=None, template=None)
    TextCodec.load(local).tokenizer.save_pretrained(folder)
    if (generation := like.folder / "generation_config.json").is_file():
        shutil.copy(generation, folder)  # it may have further end tokens


def _folder(spec: ModelSpec) -> Path:
    """The folder of the weights, downloaded from the hub if the model is not a folder."""
    path = Path(spec.model).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    with hub.loading("the model", spec.model, spec.revision) as where:
        return Path(
            snapshot_download(
                spec.model,
                allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
                **where,
            )
        )


def _names(file: Path) -> list[str]:
    """The names of a file's tensors. Raises UsageError if it is missing or incomplete."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"cannot read the weights in {file} ({error}): download or save the checkpoint again"
        ) from error


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"
