"""Folds a head into a checkpoint: the head's rows become rows of the output matrix.

A causal language model's logits are its output matrix times its last state. A head that is a matrix
times the same state is n more logits, so the rows of n tokens that no text needs can hold it. The
state is that of the last layer after the final norm, which a head reads at layer -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.checkpoints.text import TextCodec
from taketurns.errors import ConfigError, concerning
from taketurns.switchers.head import Head
from taketurns.types import ModelSpec
from taketurns.utils.files import atomic_folder

if TYPE_CHECKING:
    from torch import Tensor

CURE = "train one to fold: taketurns train --switcher head --mode speaker --layer -1 --no-bias"
_TRIAL = "1 + 1 = 2"


def check_foldable(head: Head) -> None:
    """Raise ConfigError for a head that is more than a matrix times the speaker's states."""
    if head.config.mode != "speaker":
        raise ConfigError(
            f"the head always reads {head.config.reader}, and only a head that reads the current "
            f"speaker can be folded; {CURE}"
        )
    if any(len(layers) != 1 for layers in head.config.layers.values()):
        raise ConfigError(
            f"the head reads several layers, and the output matrix reads only the last; {CURE}"
        )
    if bool(head.bias.any()) or any(bool(scale.mean.any()) for scale in head.scales.values()):
        raise ConfigError(f"the head has a bias, which an output matrix cannot hold; {CURE}")


def folded_rows(head: Head, name: str) -> Tensor | None:
    """The head's weights `[candidates, d]` for the states of candidate `name`; None if the head has
    none for it."""
    scale = head.scales.get(name)
    return None if scale is None else scale.weight / scale.deviation


def load_model(name: str, spec: ModelSpec) -> Any:
    """The checkpoint in its stored dtype. Raises ConfigError if it cannot be loaded."""
    from taketurns.engines.local.finite_weights import check_weights
    from taketurns.engines.local.loading import pretrained

    plain = replace(spec, device_map=None, quantization_config=None, attn_implementation=None)
    with concerning(name):
        model = pretrained(plain, dtype="auto").eval()
        check_weights(model, f"the model {spec.model!r}")
    return model


def fold(
    name: str, model: Any, codec: TextCodec, rows: Tensor | None, tokens: Sequence[int]
) -> None:
    """Write `rows` `[candidates, d]` (None: zeros) at `tokens` of the model's output matrix, untie
    it from the embedding, and suppress these tokens. Raises ConfigError for a model whose logits
    are not its output matrix times its last state."""
    import torch

    from taketurns.checkpoints.generation_config import change_shipped

    matrix = model.get_output_embeddings()
    with torch.no_grad():
        weight = matrix.weight.detach().clone()
        weight[list(tokens)] = 0 if rows is None else rows.to(weight)
        matrix.weight = torch.nn.Parameter(weight, requires_grad=False)
        if getattr(matrix, "bias", None) is not None:
            matrix.bias[list(tokens)] = 0
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    kept = model.generation_config.suppress_tokens or []
    change_shipped(model, suppress_tokens=sorted({*kept, *tokens}))
    _verify(name, model, codec, tokens)


def save(model: Any, codec: TextCodec, folder: Path) -> None:
    """Write the checkpoint and its tokenizer atomically."""
    from taketurns.engines.local.loading import bar_if_long

    with atomic_folder(folder) as draft:
        with bar_if_long(model.name_or_path):
            model.save_pretrained(draft)
        codec.tokenizer.save_pretrained(draft)


def _verify(name: str, model: Any, codec: TextCodec, tokens: Sequence[int]) -> None:
    import torch

    with torch.inference_mode():
        ids = torch.tensor([codec.encode(_TRIAL, special=True)])
        output = model(input_ids=ids, output_hidden_states=True)
        weight = model.get_output_embeddings().weight[list(tokens)].float()
        expected = output.hidden_states[-1][0, -1].float() @ weight.T
        logits = output.logits[0, -1, list(tokens)].float()
    exact = model.get_output_embeddings().weight.dtype == torch.float32
    largest = float((logits - expected).abs().max())
    if largest > (1e-4 if exact else 0.05) * (1 + float(expected.abs().max())):
        raise ConfigError(
            f"the logits of {name} are not its output matrix times its last state (they are scaled "
            "or capped), so a head cannot be folded into it: use the head unfolded"
        )
