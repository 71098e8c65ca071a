"""Shapes of a forward whose results are equal bit for bit, independent of the rest of the batch.

The last bits of a matrix product or an attention depend on the shape of the computation, and they
can change a draw near a boundary. Which shapes agree depends on the processor, the number of
threads and the size of the weights: on one machine all multiples of four rows agree; on another
sixteen rows differ from fewer; with two threads 48 rows of some weights differ from 64. So
`measure` multiplies the model's own weights when it is loaded, and gives the shapes that its
forwards may have.

Attention agreed on all measured machines (float32, CPU with MKL, torch 2.13, one and two threads)
for an even number of queries, with keys in multiples of 64 up to 192 and of 512 above. With an odd
number of queries the result depends on the address of scratch memory. Tests check this on random
batches."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D

from taketurns.engines.local import packed_products

ROWS = 4  # a CPU multiplies four rows faster than two or three
BLOCK = 32  # tokens per row in a forward that encodes
_EXPERTS = frozenset(  # names of the number of a layer's experts in configurations
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "expert_num")
)
NAME = "taketurns_exact"  # of the attention that `enable` gives a model
_MULTIPLES = (1, 4, 8, 16, 32)  # candidates for the number that divides the rows of a product
_FEW = (1, 2, 3, 5, 8, 16)
_KNOWN = "taketurns_agreements"  # what a layer keeps of its measurements
_BLOCKS = (1, 2, 3, 5, 8, 16, 64)  # numbers of answers whose blocks are tried together


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes that agree: a product of single tokens has a multiple of `rows` rows and at most
    `most`; blocks of several answers are multiplied `together`, or each alone."""

    rows: int
    most: int
    together: bool

    def padded(self, lanes: int) -> int:
        """The number of rows in a forward that computes one token for `lanes` lanes."""
        return _round_up(lanes, self.rows)


@torch.inference_mode()
def measure(model: Any, lanes: int) -> Shapes | None:
    """The shapes in which all products of the model's weights agree, with the current number of
    threads: the smallest `rows` that allows batches of `lanes` answers, else the one that allows
    the largest batches. None for a model without such weights. Up to 64 answers the shapes are the
    same, so an answer does not depend on the engine's batch limit."""
    lanes = max(lanes, 64)
    products = [_Product(*weights) for weights in _weights(model)]
    # Routers of experts are linear layers too, but they do not return a product.
    products = [p for p in products if isinstance(p.layer(torch.zeros(1, p.width)), Tensor)]
    if not products:
        return None
    best = (0, 0)
    for rows in _MULTIPLES:
        batches = range(1, -(-lanes // rows) + 1)
        most = rows * min(product.agrees(rows, batches) for product in products)
        best = max(best, (most, rows), key=lambda shape: shape[0])
        if most >= lanes:
            break
    blocks = [p for p in products if not (p.is_output and _keeps_some(model))]
    together = all(p.agrees(BLOCK, _BLOCKS) == _BLOCKS[-1] for p in blocks)
    return Shapes(best[1], best[0], together)


@dataclass(frozen=True, slots=True)
class _Product:
    """A layer that multiplies inputs `[tokens, width]`."""

    layer: Any
    width: int
    is_output: bool

    def agrees(self, rows: int, batches: Sequence[int]) -> int:
        """The largest of `batches` up to which a product of `rows * batch` rows agrees: its first
        and last `rows` rows equal those of a product of these rows alone. The layer keeps the
        result, because every adapter that is loaded on it asks again."""
        layer = self.layer
        known = vars(layer).setdefault(_KNOWN, {})
        ways = (type(layer), layer.weight._version, packed_products.multiplies(layer))
        key = (*ways, torch.get_num_threads(), self.is_output, rows, tuple(batches))
        if key not in known:
            known[key] = self._agrees(rows, batches)
        agreed: int = known[key]
        return agreed

    def _agrees(self, rows: int, batches: Sequence[int]) -> int:
        if self.is_output:  # as wide as the vocabulary, so only a few are tried
            batches = [batch for batch in batches if batch in _FEW or batch == batches[-1]]
        random = torch.Generator().manual_seed(0)
        inputs = torch.randn((rows * batches[-1], self.width), generator=random)
        agreed = 0
        for batch in batches:
            whole = inputs[: rows * batch]
            product = self.layer(whole)
            for part in {(0, rows), (rows * (batch - 1), rows * batch)}:
                if not torch.equal(product[slice(*part)], self.layer(whole[slice(*part)])):
                    return agreed
            agreed = batch
        return agreed


def _keeps_some(model: Any) -> bool:
    """Whether the model can compute logits for only the last tokens of a block."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _weights(model: Any) -> Iterator[tuple[Any, int, bool]]:
    """One layer of each shape, with the width of its input, and whether it is the output layer."""
    output = model.get_output_embeddings()
    seen = set()
    for module in model.modules():
        if not isinstance(module, (torch.nn.Linear, Conv1D)) or module.weight.ndim != 2:
            continue
        shape = (type(module), tuple(module.weight.shape), module.bias is None, module is output)
        if shape not in seen:
            seen.add(shape)
            yield module, module.weight.shape[0 if isinstance(module, Conv1D) else 1], shape[3]


def obstacle(config: Any) -> str | None:
    """Why no shapes of a model's forward agree, from its configuration; None if they may agree. The
    number of rows in an expert's product depends on the routing of the whole batch, and quantised
    products have special kernels."""
    if getattr(config, "quantization_config", None) is not None:
        return "its weights are quantised"
    settings = config.get_text_config().to_dict()
    counts = (value for key, value in settings.items() if key in _EXPERTS)
    if any(isinstance(count, int) and count > 1 for count in counts):
        return "it is a mixture of experts"
    return None


def wanted(asked: bool | None, device: str, dtype: torch.dtype | str, why_not: str | None) -> bool:
    """Whether a model runs in exact rounds: as `asked`, by default for float32 on a CPU without an
    `obstacle`."""
    if asked is not None:
        return asked
    return device == "cpu" and str(dtype).removeprefix("torch.") == "float32" and why_not is None


def refusal(model: str, why: str) -> str:
    """The message for a model that must have exact rounds and cannot."""
    return (
        f"{model} cannot be run with engine.deterministic: true, because {why}: use auto; if two "
        "tokens are nearly equally probable, its answers may then depend on the rest of the batch"
    )


def enable(model: Any) -> bool:
    """Give the model an attention whose shapes agree; False if its own cannot be replaced."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return enabled(model)


def enabled(model: Any) -> bool:
    """Whether the model has the attention that `enable` gives."""
    return bool(model.config._attn_implementation == NAME)


def visible(length: int) -> int:
    """The number of keys that a forward reads to see `length` of them."""
    return _round_up(length, 64 if length <= 192 else 512)


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
    `[rows, tokens, heads, dim]`. For a single token, the heads that share a key become its queries;
    an odd number of queries is made even. Rows without keys are padding; their result is 0."""
    tokens = query.shape[2]
    if tokens % 2 and tokens > 1 and attention_mask is not None:
        query, attention_mask = (
            torch.cat((part, part[:, :, -1:]), 2) for part in (query, attention_mask)
        )
        even, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return even[:, :tokens], None
    if tokens != 1 or attention_mask is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return whole
    batch, heads, _, dim = query.shape
    wide = value.shape[3]  # the width of the result: values may be narrower than keys
    real = key.shape[0]
    packed = query[:real].reshape(real, key.shape[1], heads // key.shape[1], dim)
    shared = packed.shape[2]
    if shared % 2:
        packed = torch.cat((packed, packed[:, :, -1:]), 2)
    mask = attention_mask[:real].expand(-1, -1, packed.shape[2], -1)
    seen = torch.nn.functional.scaled_dot_product_attention(
        packed, key, value, attn_mask=mask, scale=scaling
    )
    result = query.new_zeros((batch, 1, heads, wide))
    result[:real] = seen[:, :, :shared].reshape(real, 1, heads, wide)
    return result, None


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
