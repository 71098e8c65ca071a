"""What the layers of a model cache, found out by running it with one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.lane_tensors import LayerShape
from taketurns.engines.local.lanes import CacheShape
from taketurns.engines.local.masks import FULL, LayerSight, Masks, masks_of, sights_of
from taketurns.engines.local.plain_forward import Unfit, kv_argument
from taketurns.engines.local.states import Kind, StateShape

# Attentions that support any mask. The flash kernels support only padding.
MASKED = frozenset({"sdpa", "eager", batch_invariant.NAME})


def probe(model: Any) -> tuple[CacheShape, Masks]:
    """What a model caches, and the masks that it takes, found out with one token. Raises Unfit if
    its cache cannot be appended to lane by lane: states outside the cache, no cache at all,
    positions or an attention that do not go by a mask such as lanes need."""
    config = model.config.get_text_config()
    sights = sights_of(config)
    attention = model.config._attn_implementation
    if attention not in MASKED and any(sights):
        raise Unfit(f"its attention, {attention}, supports only padding masks")
    embedding = model.get_input_embeddings().weight
    at = torch.zeros((1, 1), dtype=torch.long, device=embedding.device)
    wrong: Exception | None = None
    for masks in masks_of(sights):
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=config)
                model(
                    input_ids=at,
                    use_cache=True,
                    **masks.arguments(at, lambda sight: at, embedding.dtype),
                    **{kv_argument(model): cache},
                )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model may fail in any way at what it was not made for
            wrong = error
            continue
        return _cached(cache.layers, sights, embedding), masks
    raise Unfit("it cannot be given a mask and positions for every row") from wrong


def _cached(
    layers: Sequence[Any], sights: Sequence[LayerSight | None], embedding: Tensor
) -> CacheShape:
    empty = LayerShape(0, 0, 0, embedding.dtype, embedding.device)
    keys: list[LayerShape] = []
    states: list[StateShape] = []
    for place, (layer, sight) in enumerate(zip(layers, sights, strict=True)):
        if type(layer) not in (*_STATES, *_KEYS, *_NOTHING):
            raise Unfit(f"it has layers with {_kind(layer)}")
        if type(layer) in _STATES:
            states.extend(_states(place, layer))
        keys.append(_keys(layer, sight or FULL) if type(layer) in _KEYS else empty)
    shape = CacheShape(tuple(keys), tuple(states))
    return shape if states or shape.attends else _no_cache()


_HYBRID = (LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer)
_STATES = (LinearAttentionLayer, *_HYBRID)
_KEYS = (DynamicLayer, DynamicSlidingWindowLayer, *_HYBRID)
# The transformers that vLLM 0.32 asks for, 5.19, does not have the class of layers without a cache.
_NOTHING = tuple(filter(None, [getattr(cache_utils, "DummyLayer", None)]))


def _keys(layer: Any, sight: LayerSight) -> LayerShape:
    keys, values = layer.keys, layer.values
    if keys is None or values is None:
        _no_cache()
    heads, tokens, dim = keys.shape[1:]
    if values.shape[1:-1] != (heads, tokens) or tokens != 1:
        raise Unfit("it caches something else than a key and a value a token")
    return LayerShape(heads, dim, values.shape[-1], keys.dtype, keys.device, sight)


def _states(place: int, layer: Any) -> list[StateShape]:
    kinds: dict[Kind, dict[int, Tensor | None]] = {
        "conv": layer.conv_states,
        "recurrent": layer.recurrent_states,
    }
    found = [
        StateShape((place, kind, index), tuple(state.shape[1:]), state.dtype, state.device)
        for kind, states in kinds.items()
        for index, state in states.items()
        if state is not None
    ]
    if not found:
        raise Unfit("it keeps a state outside its cache")
    return found


def _kind(layer: Any) -> str:
    name = getattr(layer, "_layer_type", None)
    return "an index" if name is None else str(name).replace("_", " ")


def _no_cache() -> NoReturn:
    raise Unfit("it fills no cache of keys and values")
