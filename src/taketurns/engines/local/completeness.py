"""Check that a checkpoint has exactly the tensors of its model, in the same shapes.

Transformers fills a missing tensor with random numbers and ignores one that is left over. Its
report leaves out harmless cases (tied weights, parts of other heads).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from taketurns.checkpoints.model_config import read_config
from taketurns.checkpoints.safetensors_metadata import TensorInfo
from taketurns.engines.local.library_logging import quiet
from taketurns.errors import ConfigError
from taketurns.types import ModelSpec

NAMED = 3  # the number of tensors that an error names
_VALUE_HEAD = re.compile(r"^v_head\.")  # a head for reinforcement learning


def require_complete(model: str, report: Mapping[str, Collection[Any]]) -> None:
    """Raise ConfigError if transformers' report of loading (`output_loading_info`) has a tensor
    that is missing, left over or of another shape."""
    if (reason := _fault(report)) is not None:
        raise ConfigError(f"cannot load the model {model!r}: {reason}")


def empty_model(spec: ModelSpec, config: Any) -> Any:
    """The model of a configuration without any weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=spec.trust_remote_code)


def find_fault(spec: ModelSpec, tensors: Sequence[TensorInfo]) -> str | None:
    """The fault that loading these tensors would report, found by letting transformers load empty
    tensors. None if there is none, or if it cannot be known before loading."""
    import torch

    config = read_config(spec)
    if getattr(config, "quantization_config", None) is not None:
        return None  # stored tensors have other names and shapes than loaded ones
    empty = {
        tensor.name: torch.empty(
            tensor.shape, dtype=torch.float32 if tensor.floating else torch.int64, device="meta"
        )
        for tensor in tensors
    }
    try:
        with quiet():
            _, report = type(empty_model(spec, config)).from_pretrained(
                None,
                config=config,
                state_dict=empty,
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception:
        return None  # not every architecture can be made without weights; loading checks again
    return _fault(report)


def _fault(report: Mapping[str, Collection[Any]]) -> str | None:
    if missing := sorted(report["missing_keys"]):
        return (
            f"its weights are incomplete: {_listed(missing)} missing, which transformers would "
            "fill with random numbers; fetch or save the checkpoint again"
        )
    if other := sorted(report["mismatched_keys"]):
        name, loaded, wanted = other[0]
        return (
            f"its weights do not fit its config.json: {name} is {list(loaded)} and should be "
            f"{list(wanted)}; fetch or save the checkpoint again"
        )
    left_over = sorted(key for key in report["unexpected_keys"] if not _VALUE_HEAD.search(key))
    if left_over:
        return (
            f"its weights do not fit its config.json: {_listed(left_over)} left over; if answers "
            "do not need them, load the checkpoint with from_pretrained and save it with "
            "save_pretrained"
        )
    return None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"{len(names)} tensors ({shown}) are" if len(names) > 1 else f"{shown} is"
