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
    else the only one."""

    sights: Mapping[str, LayerSight]
    named: bool = False

    def make(
        self, at: Tensor, keys: Callable[[LayerSight], Tensor], dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """What a forward over tokens at the positions `at` `[rows, tokens]` is given: 0 for each
        key that is seen, else minus infinity, `[rows, 1, tokens, keys]`. `keys` are the positions
        of the keys that the cache shows to layers with a sight: `[1 or rows, keys]`."""
        made = {}
        for name, sight in self.sights.items():
            shown = keys(sight).to(at.device)
            mask = torch.zeros((*at.shape, shown.shape[-1]), dtype=dtype, device=at.device)
            hidden = sight.hides(shown[:, None], at[:, :, None])
            made[name] = mask.masked_fill_(hidden, -inf)[:, None]
        return made if self.named else next(iter(made.values()))


def sights_of(config: Any) -> list[LayerSight]:
    """What each layer of a model looks at, by its configuration. Raises Unfit for layers that look
    in another way."""
    sights = []
    for kind, settings in zip(*get_layer_types_and_kwargs(config), strict=True):
        if kind == "full_attention":
            sights.append(FULL)
        elif kind in ("sliding_attention", "chunked_attention"):
            sights.append(LayerSight(kind, int(settings["sliding_window"])))
        else:
            raise Unfit(f"it has layers with {_KINDS.get(kind, kind.replace('_', ' '))}")
    return sights


_KINDS = {
    "linear_attention": "a recurrent state",
    "conv": "a recurrent state",
    "mamba": "a recurrent state",
    "hybrid": "a recurrent state",
    "hybrid_sliding": "a recurrent state",
    "dummy": "keys and values of other layers",
}


def masks_of(sights: Sequence[LayerSight]) -> tuple[Masks, ...]:
    """The masks that a model with such layers may take, the likeliest first. Raises Unfit where
    two layers of one kind have unlike windows."""
    by_name: dict[str, LayerSight] = {sight.kind: sight for sight in sights}
    if len(by_name) < len(set(sights)):
        raise Unfit("it has layers with windows of several sizes")
    if len(by_name) > 1:
        return (Masks(by_name, named=True),)
    # Models whose layers may be of several kinds take a mapping though all of theirs are alike.
    return Masks(by_name), Masks({FULL.kind: FULL, **by_name}, named=True)
