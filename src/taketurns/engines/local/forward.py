"""One forward of a transformers model over rows at different positions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taketurns.engines.local import packed_products
from taketurns.engines.local.lanes import LanePool
from taketurns.engines.local.lora_rows import LoraRows
from taketurns.engines.local.masks import Masks
from taketurns.engines.local.plain_forward import hidden_states, kv_argument


@dataclass(frozen=True, slots=True)
class Outputs:
    """The model's output at the last column: float32 logits `[rows, vocabulary]` and, if requested,
    a hidden state `[rows, d]` per layer, the embedding first. `columns` are the logits
    after every column that some were computed for, `[rows, columns, vocabulary]`."""

    logits: Tensor
    columns: Tensor
    hidden: tuple[Tensor, ...] = ()


class Forward:
    """Calls a causal LM with explicit positions and `masks`. `activate` runs before each call: it
    puts the right adapter on weights that several models share; with `rows` each row has its own
    instead. `packed`: it multiplies with packed weights (`engines/local/packed_products.py`).
    `multiple`: products of single tokens have a multiple of so many rows."""

    def __init__(
        self,
        model: Any,
        masks: Masks,
        activate: Callable[[], None] | None = None,
        rows: LoraRows | None = None,
    ) -> None:
        self._model = model
        self._masks = masks
        self._activate = activate
        self._rows = rows
        self._device = model.get_input_embeddings().weight.device
        self._dtype = model.get_input_embeddings().weight.dtype
        self.on_cpu = self._device.type == "cpu"
        self.packed = False
        self.multiple = 1
        parameters = inspect.signature(model.forward).parameters
        self._cache_argument = kv_argument(model)
        self._keeps_some = "logits_to_keep" in parameters

    @torch.inference_mode()
    def __call__(
        self,
        ids: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        cache: LanePool,
        hidden: bool = False,
        keep: int = 1,
        adapters: Sequence[str | None] = (),
    ) -> Outputs:
        """`ids` and `positions` are `[rows, tokens]`. A token sees the keys at its own position and
        before, in layers with a window those in it, among those that the cache shows. Logits are
        computed for the last `keep` columns, of which the last is returned. `adapters` has the
        adapter of each row; a row with None, or beyond them, is the base's."""
        at = torch.from_numpy(positions).to(self._device)
        packed = packed_products.used() if self.packed else nullcontext()
        with packed, self._adapted(adapters, len(ids)):
            result = self._model(
                input_ids=torch.from_numpy(ids).to(self._device),
                use_cache=True,
                output_hidden_states=hidden,
                **self._masks.arguments(at, cache.keys, self._dtype),
                **{self._cache_argument: cache},
                **({"logits_to_keep": keep} if self._keeps_some else {}),
            )
        states = hidden_states(result) if hidden else ()
        return Outputs(
            result.logits[:, -1].float(),
            result.logits,
            tuple(state[:, -1].float() for state in states),
        )

    def _adapted(self, adapters: Sequence[str | None], rows: int) -> AbstractContextManager[None]:
        if self._rows is not None:
            return self._rows.used(adapters, rows, self.multiple)
        if self._activate is not None:
            self._activate()
        return nullcontext()
