"""Products with weights that are stored in the order in which they are multiplied.

The kernels that torch calls for `linear` on a CPU depend on the number of rows: a product of one
row, of a few and of many give a row different last bits. With packed weights MKL's product (for
wide layers) and oneDNN's (for narrow ones) give a row the same bits whatever else is multiplied
with it, and are faster from two rows on. They need a second copy of the weights, which `pack` makes
and `unpack` drops. Seen with torch 2.13 on Intel processors (both) and AMD processors (oneDNN's),
one and two threads; `pack` takes the product that agrees where it runs, and
`batch_invariant.measure` tests the whole model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

# Weights are packed if all of a model take no more than this part of the machine's memory. It is
# not a part of the free memory, since the same model must be run in the same way every time.
MEMORY_SHARE = 1 / 8
_PACKED_FOR = 16  # rows: the layout for so many agrees for other numbers of rows too
_TRIED = (1, 2, 3, 5, 16, 17, 64)
_USED: ContextVar[bool] = ContextVar("packed products are used", default=False)

Product = Callable[[Tensor], Tensor]
"""From inputs `[…, inputs]` to outputs `[…, outputs]`."""


@contextmanager
def used() -> Iterator[None]:
    """Use packed weights in this thread meanwhile. Elsewhere the layers multiply as their classes
    do, so a plain forward of the same model is one without them."""
    before = _USED.set(True)
    try:
        yield
    finally:
        _USED.reset(before)


def pack(model: Any) -> bool:
    """Pack the weights of a model's linear layers, for where they are `used`. Those that are packed
    stay as they are, unless the number of threads has changed. Returns whether all are packed: none
    are on another device, in another precision, if they are too large, or if no product of one of
    them agrees."""
    layers = [module for module in model.modules() if _is_linear(module)]
    size = sum(layer.weight.nbytes for layer in layers)
    if not all(map(_fits, layers)) or size > MEMORY_SHARE * _memory():
        return False
    kinds: dict[tuple[int, ...], Callable[[Tensor, Tensor | None], Product] | None] = {}
    products = []
    for layer in layers:
        packed = vars(layer).get("forward")
        if isinstance(packed, _PackedProduct) and packed.current:
            products.append(packed)
            continue
        rows = _rows(layer)
        shape = (*rows.shape, layer.bias is not None)
        if shape not in kinds:
            kinds[shape] = next((k for k in _KINDS if _agrees(k, rows, layer.bias)), None)
        kind = kinds[shape]
        if kind is None:
            return False
        products.append(_PackedProduct(layer, kind(rows, layer.bias)))
    for layer, product in zip(layers, products, strict=True):
        layer.forward = product
    return bool(layers)


def is_packed(model: Any) -> bool:
    """Whether the weights of a model are packed."""
    return any(isinstance(vars(m).get("forward"), _PackedProduct) for m in model.modules())


def multiplies(layer: Any) -> bool:
    """Whether a layer multiplies with packed weights here."""
    return _USED.get() and isinstance(vars(layer).get("forward"), _PackedProduct)


def unpack(model: Any) -> None:
    """Drop the packed weights."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _PackedProduct):
            del module.forward


class _PackedProduct:
    """The forward of a linear layer whose weights never change. If they have changed all the same,
    it is that of the layer's class."""

    def __init__(self, layer: Any, multiply: Product) -> None:
        self._layer = layer
        self._multiply = multiply
        self._version = layer.weight._version
        self._threads = torch.get_num_threads()

    @property
    def current(self) -> bool:
        """Whether the weights and the number of threads are those for which it was packed."""
        unchanged = self._layer.weight._version == self._version
        return unchanged and torch.get_num_threads() == self._threads

    def __call__(self, x: Tensor) -> Tensor:
        layer = self._layer
        changed = layer.weight._version != self._version
        if changed or not _USED.get() or x.dtype != torch.float32 or not x.numel():
            plain: Tensor = type(layer).forward(layer, x)
            return plain
        return self._multiply(x)


def _mkl(rows: Tensor, bias: Tensor | None) -> Product:
    packed, width = torch.ops.mkl._mkl_reorder_linear_weight(rows, _PACKED_FOR), rows.shape[1]
    multiply = torch.ops.mkl._mkl_linear
    return lambda x: multiply(x, packed, rows, bias, x.numel() // width)


def _onednn(rows: Tensor, bias: Tensor | None) -> Product:
    packed = torch.ops.mkldnn._reorder_linear_weight(rows, _PACKED_FOR)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda x: multiply(x, packed, bias, "none", [], "")


def _onednn_twice(rows: Tensor, bias: Tensor | None) -> Product:
    """A row alone is multiplied twice over: oneDNN adds up its products in another order than those
    of several rows where a row has more than 1,024 inputs (seen on AMD processors)."""
    multiply, width = _onednn(rows, bias), rows.shape[1]

    def product(x: Tensor) -> Tensor:
        if x.numel() != width:
            return multiply(x)
        two: Tensor = multiply(x.reshape(1, width).expand(2, width).contiguous())
        return two[:1].reshape(*x.shape[:-1], -1)

    return product


_KINDS = (_mkl, _onednn, _onednn_twice)


def _agrees(
    kind: Callable[[Tensor, Tensor | None], Product], rows: Tensor, bias: Tensor | None
) -> bool:
    """Whether this build has the product, and a row has the same bits in every batch tried."""
    inputs = torch.randn(
        (2 * _TRIED[-1], rows.shape[1]), generator=torch.Generator().manual_seed(0)
    )
    # With gradients torch calls another kernel for a row and a bias, which the engine never does.
    with torch.inference_mode():
        try:
            multiply = kind(rows, bias)
            whole = multiply(inputs)
        except (AttributeError, NotImplementedError, RuntimeError):
            return False
        return all(
            torch.equal(
                multiply(inputs[start : start + count].clone()), whole[start : start + count]
            )
            for count in _TRIED
            for start in (0, count)
        )


def _is_linear(module: Any) -> bool:
    return type(module) in (torch.nn.Linear, Conv1D) and module.weight.ndim == 2


def _fits(layer: Any) -> bool:
    """Whether a layer can be packed, and nothing else has replaced its forward."""
    forward, weight = vars(layer).get("forward"), layer.weight
    free = forward is None or isinstance(forward, _PackedProduct)
    return free and weight.dtype == torch.float32 and weight.device.type == "cpu"


def _rows(layer: Any) -> Tensor:
    """The weights `[outputs, inputs]`."""
    weight: Tensor = layer.weight.detach()
    return weight.t().contiguous() if isinstance(layer, Conv1D) else weight


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
