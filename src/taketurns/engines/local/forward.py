"""One forward of a transformers model over rows at different positions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taketurns.engines.local import packed_products
from taketurns.engines.local.lanes import LanePool
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
    puts the right adapter on weights that several models share. `packed`: it multiplies with packed
    weights (`engines/local/packed_products.py`)."""

    def __init__(
        self, model: Any, masks: Masks, activate: Callable[[], None] | None = None
    ) -> None:
        self._model = model
        self._masks = masks
        self._activate = activate
        self._device = model.get_input_embeddings().weight.device
        self._dtype = model.get_input_embeddings().weight.dtype
        self.on_cpu = self._device.type == "cpu"
        self.packed = False
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
    ) -> Outputs:
        """`ids` and `positions` are `[rows, tokens]`. A token sees the keys at its own position and
        before, in layers with a window those in it, among those that the cache shows. Logits are
        computed for the last `keep` columns, of which the last is returned."""
        if self._activate is not None:
            self._activate()
        at = torch.from_numpy(positions).to(self._device)
        with packed_products.used() if self.packed else nullcontext():
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
