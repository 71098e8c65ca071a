"""Loading models for training: precision, adapter and number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taketurns.errors import ConfigError
from taketurns.training.settings import SMALL
from taketurns.types import ModelSpec


def load_trainable(spec: ModelSpec, lora: bool | None) -> tuple[Any, Any]:
    """The model in its training precision, and its tokenizer. `lora` None means no adapter for
    models with less than 20 million parameters. Raises ConfigError if the model cannot be
    loaded."""
    import torch

    from taketurns.checkpoints.text import TextCodec
    from taketurns.engines.local.finite_weights import check_weights
    from taketurns.engines.local.loading import choose_device, pretrained

    # All weights are trained in float32; under an adapter they stay as they were saved.
    whole = lora is False or choose_device(spec.device) == "cpu"
    model = pretrained(spec, dtype=torch.float32 if whole else "auto")
    check_weights(model, f"the model {spec.model!r}")
    if getattr(model, "is_quantized", False) and not (
        lora or (lora is None and size(model) >= SMALL)
    ):
        raise ConfigError(
            f"the weights of {spec.model!r} are quantised and cannot be trained: train an adapter "
            "on them with --lora"
        )
    if not whole and lora is None and size(model) < SMALL:
        model = model.float()
    return model, TextCodec.load(spec).tokenizer


def lora_config(rank: int) -> Any:
    """The configuration of an adapter on every linear layer."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def size(model: Any) -> int:
    """The number of parameters."""
    return sum(int(parameter.numel()) for parameter in model.parameters())


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Run on one thread if `wanted`: small models run fastest there, and reproducibly."""
    import torch

    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
