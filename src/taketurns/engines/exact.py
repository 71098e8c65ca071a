"""Shapes of a forward whose results agree bit for bit, whatever else is in the batch.

The last bits of a matrix product or an attention depend on the shape it is computed in, and a draw
near a boundary then flips. Which shapes agree was found by measurement (float32, CPU with MKL,
torch 2.13, one and two threads): products of a multiple of four rows (a block of tokens is one by
itself, its logits are computed for four columns, and single tokens are padded); attention over an
even number of queries, with keys in multiples of 64 for two queries, and for more at most 192 or a
multiple of 512. An odd number of queries makes the result depend on where scratch memory happens
to lie. The tests hold this over random batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ROWS = 4  # a product has a multiple of these
BLOCK = 32  # tokens a row in a forward that encodes
_EXPERTS = frozenset(  # what configurations call the number of a layer's experts
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "expert_num")
)
NAME = "taketurns_exact"  # of the attention that `enable` gives a model


def obstacle(config: Any) -> str | None:
    """Why no shapes of a model's forward agree, by its configuration; None where they may. How many
    rows an expert's product has depends on where the tokens of the whole batch are sent, and
    products in fewer bits have kernels of their own."""
    if getattr(config, "quantization_config", None) is not None:
        return "its weights are in fewer bits"
    settings = config.get_text_config().to_dict()
    counts = (value for key, value in settings.items() if key in _EXPERTS)
    if any(isinstance(count, int) and count > 1 for count in counts):
        return "it is a mixture of experts"
    return None


def enable(model: Any) -> bool:
    """Give the model an attention whose shapes agree; False if it has none that can be replaced."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def queries(model: Any) -> int:
    """How many queries share a key when one token a row is computed."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    return _even(heads // (getattr(config, "num_key_value_heads", None) or heads))


def rows(lanes: int) -> int:
    """How many rows a forward that computes a token for so many lanes has."""
    return _round_up(lanes, ROWS)


def visible(length: int, queries: int) -> int:
    """How many keys a forward reads to see `length` of them."""
    if queries == 2:
        return _round_up(length, 64)
    return 128 if length <= 128 else _round_up(length, 512)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `query` is `[rows, heads, tokens, dim]`, the result
    `[rows, tokens, heads, dim]`. A single token's heads are packed onto their key's, and an odd
    number of them is made even. Rows that have no keys are padding and see nothing."""
    if query.shape[2] != 1 or attention_mask is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return whole
    batch, heads, _, dim = query.shape
    real = key.shape[0]
    packed = query[:real].reshape(real, key.shape[1], heads // key.shape[1], dim)
    shared = packed.shape[2]
    if shared % 2:
        packed = torch.cat((packed, packed[:, :, -1:]), 2)
    mask = attention_mask[:real].expand(-1, -1, packed.shape[2], -1)
    seen = torch.nn.functional.scaled_dot_product_attention(
        packed, key, value, attn_mask=mask, scale=scaling
    )
    result = query.new_zeros((batch, 1, heads, dim))
    result[:real] = seen[:, :, :shared].reshape(real, 1, heads, dim)
    return result, None


def _even(number: int) -> int:
    return _round_up(number, 2)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
