"""Rows of different LoRA adapters in one forward.

The base multiplies all rows at once, and to each row the low-rank part of its own adapter is added.
Single tokens are multiplied with the matrices of all adapters side by side, and what a row has of
adapters that are not its own is set to 0: two products, however many adapters there are. Where many
tokens are read at once, or the adapters together are wide, the rows of each adapter are multiplied
with its own matrices. Which of the two is taken does not depend on who else is in the batch, so
that rounds may be exact.

Outside of `LoraRows.used` the layers compute as PEFT does, so a plain forward is one of PEFT's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from taketurns.engines.local.plain_forward import Unfit

WIDEST = 256  # columns of all adapters together that are multiplied side by side
_STACKED = "taketurns_stacked"  # the name of a layer's matrices of all adapters
Columns = tuple[tuple[str, int], ...]
"""How many columns each adapter has."""


class LoraRows:
    """The adapters on one base whose rows may share its forwards, by PEFT's names. `bare` switches
    all of PEFT's own adapters off."""

    def __init__(self, model: Any, bare: Callable[[], None]) -> None:
        self.bare = bare
        self._model = model
        self._adapters: list[str] = []
        self._last: _Plan | None = None

    def join(self, adapter: str) -> None:
        """Let the rows of a loaded adapter, which has no `obstacle`, share forwards."""
        self._adapters.append(adapter)
        for layer in _layers(self._model, adapter):
            stacked = _Stacked(layer, [name for name in self._adapters if name in layer.lora_A])
            layer.add_module(_STACKED, stacked)  # among the model's modules, to be packed
            layer.forward = _RowsForward(layer, stacked)

    @contextmanager
    def used(self, adapters: Sequence[str | None], rows: int, multiple: int = 1) -> Iterator[None]:
        """Multiply meanwhile each row of this thread's forwards, which have `rows` rows, with its
        adapter of `adapters`; rows without one, and those beyond, are the base's. Products of
        single tokens have a multiple of `multiple` rows."""
        self.bare()
        of_rows = (*adapters, *[None] * (rows - len(adapters)))
        plan = self._last
        if plan is None or (plan.of_rows, plan.multiple) != (of_rows, multiple):
            plan = self._last = _Plan(of_rows, multiple)
        before = _PLAN.set(plan)
        try:
            yield
        finally:
            _PLAN.reset(before)


def obstacle(model: Any, adapter: str, config: Any) -> str | None:
    """Why rows of an adapter, loaded onto the model with PEFT's `config`, cannot share forwards
    with those of others, as a clause; None if they can."""
    if getattr(model.config, "quantization_config", None) is not None:
        return "its base is quantised"
    if (kind := config.peft_type.value) != "LORA":
        return f"its kind is {kind}, not LORA"
    for setting in ("modules_to_save", "trainable_token_indices", "layer_replication"):
        if getattr(config, setting, None):
            return f"it has {setting}"
    if config.bias != "none" or getattr(config, "lora_bias", False):
        return "it has biases"
    for name, module in model.named_modules():
        if adapter in getattr(module, "lora_variant", ()):
            kind = type(module.lora_variant[adapter]).__name__
            return f"it is not a plain LoRA, but has PEFT's {kind.removesuffix('Variant')}"
        if _has(module, adapter) and not _is_plain(module, adapter):
            return f"it changes {name}, which is not an ordinary linear layer"
    return None


def _has(module: Any, adapter: str) -> bool:
    """Whether a module is a PEFT layer with weights of the adapter."""
    names = getattr(module, "adapter_layer_names", ())
    return any(adapter in getattr(module, name, ()) for name in names)


def _is_plain(module: Any, adapter: str) -> bool:
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or adapter not in module.lora_A:
        return False
    parts = (module.lora_A[adapter], module.lora_B[adapter])
    return type(module.base_layer) in (nn.Linear, Conv1D) and all(
        type(part) is nn.Linear and part.bias is None for part in parts
    )


def _layers(model: Any, adapter: str) -> list[Any]:
    return [module for module in model.modules() if _has(module, adapter)]


class _Stacked(nn.Module):
    """The matrices of a layer's adapters side by side, `down` `[columns, inputs]` and `up`
    `[outputs, columns]`, which is scaled. `columns` says how many each adapter has. They are linear
    layers, so that they are packed and measured like those of the model."""

    def __init__(self, layer: Any, adapters: Sequence[str]) -> None:
        super().__init__()
        downs = [layer.lora_A[name].weight.detach() for name in adapters]
        ups = [layer.lora_B[name].weight.detach() * layer.scaling[name] for name in adapters]
        self.columns = tuple(
            (name, down.shape[0]) for name, down in zip(adapters, downs, strict=True)
        )
        self.down, self.up = _linear(torch.cat(downs)), _linear(torch.cat(ups, 1))


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


class _RowsForward:
    """The forward of a PEFT layer: while rows of several adapters are read each row with its own,
    else that of the layer's class."""

    def __init__(self, layer: Any, stacked: _Stacked) -> None:
        self._layer = layer
        self._base = layer.base_layer
        self._stacked = stacked
        self._adapters = frozenset(name for name, _ in stacked.columns)
        self._narrow = sum(count for _, count in stacked.columns) <= WIDEST

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plan = _PLAN.get()
        if plan is None:
            plain: Tensor = type(self._layer).forward(self._layer, x, *args, **kwargs)
            return plain
        result: Tensor = self._base(x)
        if self._adapters.isdisjoint(plan.adapters):
            return result
        if x.dim() != 3 or x.shape[0] != len(plan.of_rows):
            raise Unfit("a layer that its adapter changes does not read its rows one by one")
        if x.shape[1] == 1 and self._narrow:
            return self._side_by_side(x, result, plan)
        return self._one_by_one(x, result, plan)

    def _side_by_side(self, x: Tensor, result: Tensor, plan: _Plan) -> Tensor:
        down, up = self._stacked.down, self._stacked.up
        low = down(x.to(down.weight.dtype))
        low.masked_fill_(plan.foreign(self._stacked.columns, x.device), 0)
        return result.add_(up(low))

    def _one_by_one(self, x: Tensor, result: Tensor, plan: _Plan) -> Tensor:
        layer = self._layer
        for group in plan.groups(x.shape[1], x.device):
            adapter, rows, count = group.adapter, group.rows, group.count
            if adapter not in self._adapters:
                continue
            down, up = layer.lora_A[adapter], layer.lora_B[adapter]
            low = up(down(x[rows].to(down.weight.dtype)).mul_(layer.scaling[adapter]))
            if isinstance(rows, slice):
                result[rows] += low
            else:
                result.index_add_(0, rows[:count], low[:count].to(result.dtype))
        return result


@dataclass(frozen=True, slots=True)
class _Group:
    """The first `count` of `rows` have this adapter; the others repeat one of them."""

    adapter: str
    rows: slice | Tensor
    count: int


class _Plan:
    """Which adapter each row of a forward has (None: it is the base's)."""

    def __init__(self, of_rows: tuple[str | None, ...], multiple: int) -> None:
        self.of_rows = of_rows
        self.multiple = multiple
        self.adapters = frozenset(name for name in of_rows if name is not None)
        self._foreign: dict[tuple[Columns, torch.device], Tensor] = {}
        self._groups: dict[tuple[bool, torch.device], list[_Group]] = {}

    def foreign(self, columns: Columns, device: torch.device) -> Tensor:
        """Which columns of adapters side by side are not those of a row's adapter: bool
        `[rows, 1, columns]`."""
        key = columns, device
        if key not in self._foreign:
            names, counts = zip(*columns, strict=True)
            owners = np.repeat(np.arange(len(names)), counts)
            owner_of = {name: number for number, name in enumerate(names)}
            rows = np.array([-1 if n is None else owner_of.get(n, -1) for n in self.of_rows])
            cells = torch.from_numpy(rows[:, None] != owners[None])
            self._foreign[key] = cells[:, None].to(device)
        return self._foreign[key]

    def groups(self, tokens: int, device: torch.device) -> list[_Group]:
        """The adapters of the forward. Rows of single tokens are repeated up to a multiple."""
        key = tokens == 1, device
        if key not in self._groups:
            multiple = self.multiple if tokens == 1 else 1
            self._groups[key] = [
                self._group(adapter, multiple, device) for adapter in sorted(self.adapters)
            ]
        return self._groups[key]

    def _group(self, adapter: str, multiple: int, device: torch.device) -> _Group:
        rows = [row for row, its in enumerate(self.of_rows) if its == adapter]
        count = len(rows)
        if count % multiple == 0 and rows[-1] - rows[0] == count - 1:
            return _Group(adapter, slice(rows[0], rows[-1] + 1), count)
        rows += rows[:1] * (-count % multiple)
        return _Group(adapter, torch.tensor(rows, device=device), count)


_PLAN: ContextVar[_Plan | None] = ContextVar("which adapter each row has", default=None)
