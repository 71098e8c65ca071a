"""Keys and values of single texts, cut out of a model's own cache and put together again.

That is possible where a cache holds a key and a value per token and layer, and nothing else. Then
texts can join a batch at any round, and an answer's next turn continues from what its last one has
encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as padded
from transformers.cache_utils import DynamicCache, DynamicLayer

from taketurns.engines.local.plain_forward import Carried, kv_argument

KeysAndValues = tuple[tuple[Tensor, Tensor], ...]  # of each layer, `[rows, heads, columns, dim]`


@dataclass(frozen=True, slots=True)
class TextCache:
    """The keys and values of `tokens`: `[1, heads, len(tokens), dim]`. No tensor is written to, so
    answers may share them."""

    tokens: Sequence[int]
    layers: KeysAndValues

    def common(self, prompt: Sequence[int]) -> int:
        """The number of leading tokens of `prompt` that are here, never including its last."""
        return shared_prefix(self.tokens, prompt, len(prompt) - 1)


def keys_and_values(carried: Carried | None, rows: int, columns: int) -> KeysAndValues | None:
    """What a model's own cache holds; None if it holds anything else than a key and a value for
    each of `columns` in each row."""
    if carried is None or type(carried.cache) is not DynamicCache:
        return None
    found: list[tuple[Tensor, Tensor]] = []
    for layer in carried.cache.layers:
        if type(layer) is not DynamicLayer:
            return None
        for tensor in (layer.keys, layer.values):
            if tensor is None or tensor.dim() != 4:
                return None
            if (tensor.shape[0], tensor.shape[2]) != (rows, columns):
                return None
        found.append((layer.keys, layer.values))
    return tuple(found) or None


def cut(layers: KeysAndValues, row: int, start: int, tokens: Sequence[int]) -> TextCache:
    """The text `tokens` in a row, whose columns begin at `start`."""
    stop = start + len(tokens)

    def copied(tensor: Tensor) -> Tensor:
        if tensor.shape[0] == 1 and stop - start == tensor.shape[2]:
            return tensor  # the cache makes new tensors when it grows
        return tensor[row : row + 1, :, start:stop].clone()

    return TextCache(tokens, tuple((copied(keys), copied(values)) for keys, values in layers))


def selected(layers: KeysAndValues, rows: Sequence[int], start: int) -> KeysAndValues:
    """Some rows, without the columns before `start`."""
    return tuple((keys[rows, :, start:], values[rows, :, start:]) for keys, values in layers)


def stacked(blocks: Sequence[tuple[KeysAndValues | None, int]], columns: int) -> KeysAndValues:
    """The rows of all blocks, of which each has the first so many columns of its own, padded on the
    left to `columns`. A block of None is a row of padding; not all may be None."""
    like = next(layers for layers, _ in blocks if layers is not None)

    def rows(layer: int, part: int) -> Tensor:
        empty = like[layer][part][:1, :, :0]
        return torch.cat(
            [
                padded(
                    empty if layers is None else layers[layer][part][:, :, :own],
                    (0, 0, columns - own, 0),
                )
                for layers, own in blocks
            ]
        )

    return tuple((rows(layer, 0), rows(layer, 1)) for layer in range(len(like)))


def as_cache(model: Any, layers: KeysAndValues) -> Carried:
    """A cache that holds these, as the model is handed it."""
    cache = DynamicCache()
    for place, (keys, values) in enumerate(layers):
        cache.update(keys, values, place)
    return Carried(kv_argument(model), cache)


def shared_prefix(tokens: Sequence[int], others: Sequence[int], limit: int) -> int:
    """How many of the first `limit` tokens are the same in both."""
    limit = min(limit, len(tokens), len(others))
    if list(tokens[:limit]) == list(others[:limit]):
        return limit
    return next(i for i in range(limit) if tokens[i] != others[i])
