"""A candidate that is an adapter on a model, as one checkpoint with the tensors of that model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.errors import UsageError
from taketurns.evaluation.methods.checkpoints import CheckpointTensors, merge

if TYPE_CHECKING:
    from torch import Tensor


def whole_checkpoint(checkpoint: CheckpointTensors, folder: Path) -> CheckpointTensors:
    """The checkpoint itself, or, of an adapter, its model with the adapter merged in by PEFT: in
    `folder`, in the model's dtype. An existing folder is complete and is not written again. Raises
    ConfigError for an adapter that does not fit, UsageError for one whose model is loaded under
    other tensor names than its files have."""
    if checkpoint.spec.adapter is None:
        return checkpoint
    weights = {} if folder.exists() else _weights(checkpoint)

    def with_adapter(name: str, model_alone: Sequence[Tensor]) -> Tensor:
        if name not in weights:
            raise UsageError(
                f"candidate {checkpoint.name} cannot be merged: {name} of its model has another "
                "name when the model is loaded; merge the adapter into its model first, or leave "
                "this method out"
            )
        return weights[name]

    return CheckpointTensors(checkpoint.name, merge([checkpoint], with_adapter, checkpoint, folder))


def on_one_model(checkpoints: Sequence[CheckpointTensors]) -> bool:
    """Are all of them one model, with adapters or as it is?"""
    models = {(one.spec.model, one.spec.revision) for one in checkpoints}
    return len(models) == 1


def _weights(checkpoint: CheckpointTensors) -> dict[str, Tensor]:
    """All weights of the model with its adapter, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    from taketurns.engines.local.adapters import put_on

    spec = checkpoint.spec
    assert spec.adapter is not None, "only for an adapter"
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder, dtype=torch.float32, trust_remote_code=spec.trust_remote_code
    )
    merged = put_on(model, spec.adapter, "merged").merge_and_unload()
    return dict(merged.state_dict())
