"""Which keys each layer of a model may look at: all before, those of a window, or those of a chunk.

transformers hands a model with several kinds of layers one mask for each, by the names in
`config.layer_types`; one with a single kind gets that mask itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import get_layer_types_and_kwargs

from taketurns.engines.local.plain_forward import Unfit

Sight = Literal["full_attention", "sliding_attention", "chunked_attention"]


@dataclass(frozen=True, slots=True)
class LayerSight:
    """What a layer looks at, and the size of its window or chunk in tokens."""

    kind: Sight
    size: int = 0

    def first(self, at: int) -> int:
        """The first position that a token at the position `at` looks at, and none after it looks
        before that."""
        if self.kind == "sliding_attention":
            return max(0, at - self.size + 1)
        return at // self.size * self.size if self.kind == "chunked_attention" else 0

    def hides(self, keys: Tensor, at: Tensor) -> Tensor:
        """Which of `keys`, positions `[1 or rows, 1, keys]`, a token at the positions `at` `[rows,
        tokens, 1]` must not look at: bool `[rows, tokens, keys]`."""
        future = keys > at
        if self.kind == "sliding_attention":
            return future | (keys <= at - self.size)
        if self.kind == "chunked_attention":
            return future | (keys // self.size != at // self.size)
        return future


FULL = LayerSight("full_attention")


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of a model: by the name of a kind of layers where it takes a mapping (`named`),
    else the only one. Layers with only states look at nothing, so they have none. `positions`: it
    takes positions, as all models with masks do."""

    sights: Mapping[str, LayerSight | None]
    named: bool = False
    positions: bool = True

    def arguments(
        self, at: Tensor, keys: Callable[[LayerSight], Tensor], dtype: torch.dtype
    ) -> dict[str, Any]:
        """What a forward over tokens at the positions `at` `[rows, tokens]` is given. `keys` are
        the positions of the keys that the cache shows to layers with a sight: `[1 or rows, keys]`.
        """
        positions = {"position_ids": at} if self.positions else {}
        if not self.sights:
            return positions
        return {"attention_mask": self.make(at, keys, dtype), **positions}

    def make(
        self, at: Tensor, keys: Callable[[LayerSight], Tensor], dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor | None]:
        """0 for each key that is seen, else minus infinity, `[rows, 1, tokens, keys]`."""
        made: dict[LayerSight | None, Tensor | None] = {None: None}
        for sight in self.sights.values():
            if sight is not None and sight not in made:
                shown = keys(sight).to(at.device)
                shape = (*at.shape, shown.shape[-1])
                zeros = torch.zeros(shape, dtype=dtype, device=at.device)
                hidden = sight.hides(shown[:, None], at[:, :, None])
                made[sight] = zeros.masked_fill_(hidden, -inf)[:, None]
        if self.named:
            return {name: made[sight] for name, sight in self.sights.items()}
        mask = made[next(iter(self.sights.values()))]
        assert mask is not None, "an only mask is one of keys"
        return mask


def sights_of(config: Any) -> list[LayerSight | None]:
    """What each layer of a model looks at, by its configuration; None: it has no keys of its own.
    Raises Unfit for layers that look in another way."""
    sights: list[LayerSight | None] = []
    for kind, settings in zip(*get_layer_types_and_kwargs(config), strict=True):
        if kind in ("full_attention", "hybrid"):
            sights.append(FULL)
        elif kind in ("sliding_attention", "hybrid_sliding"):
            sights.append(LayerSight("sliding_attention", int(settings["sliding_window"])))
        elif kind == "chunked_attention":
            sights.append(LayerSight("chunked_attention", int(settings["sliding_window"])))
        elif kind in (*_BLIND, "dummy"):
            sights.append(None)
        else:
            raise Unfit(f"it has layers with {kind.replace('_', ' ')}")
    return sights


def has_index(config: Any) -> bool:
    """Whether layers of a model look at some keys, which they choose."""
    kinds, _ = get_layer_types_and_kwargs(config)
    return "indexed_attention" in kinds


def has_states(config: Any) -> bool:
    """Whether layers of a model keep states, by its configuration."""
    kinds, _ = get_layer_types_and_kwargs(config)
    return not {*_BLIND, *_BESIDE.values()}.isdisjoint(kinds)


_BLIND = ("linear_attention", "conv")  # layers with states, without keys
# Names under which a model may look up the mask of a layer that has states beside its keys.
_BESIDE = {"full_attention": "hybrid", "sliding_attention": "hybrid_sliding"}


def masks_of(sights: Sequence[LayerSight | None]) -> tuple[Masks, ...]:
    """The masks that a model with such layers may take, the likeliest first. Raises Unfit where
    two layers of one kind have unlike windows."""
    seeing = [sight for sight in sights if sight is not None]
    if not seeing:
        return Masks({}, positions=False), Masks({})
    by_name: dict[str, LayerSight] = {sight.kind: sight for sight in seeing}
    if len(by_name) < len(set(seeing)):
        raise Unfit("it has layers with windows of several sizes")
    beside = {_BESIDE[name]: sight for name, sight in by_name.items() if name in _BESIDE}
    blind = dict.fromkeys(_BLIND)
    if len(by_name) > 1:
        return (Masks({**by_name, **beside, **blind}, named=True),)
    # Models whose layers may be of several kinds take a mapping though all of theirs are alike.
    every = {FULL.kind: FULL, **by_name, **beside, **blind}
    return Masks(by_name), Masks(every, named=True)
