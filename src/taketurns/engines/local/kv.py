"""What the layers of a model cache, found out by running it with one token."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
)

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.lane_tensors import LayerShape
from taketurns.engines.local.masks import LayerSight, Masks, masks_of, sights_of
from taketurns.engines.local.plain_forward import Unfit, kv_argument

# Attentions that support any mask. The flash kernels support only padding.
MASKED = frozenset({"sdpa", "eager", batch_invariant.NAME})


def probe(model: Any) -> tuple[tuple[LayerShape, ...], Masks]:
    """What each layer caches, and the masks that the model takes, found out with one token. Raises
    Unfit if its cache cannot be appended to lane by lane: recurrent states, keys and values of
    different sizes, no KV cache at all, positions or an attention that do not go by a mask such as
    lanes need."""
    attention = model.config._attn_implementation
    if attention not in MASKED:
        raise Unfit(f"its attention, {attention}, supports only padding masks")
    embedding = model.get_input_embeddings().weight
    config = model.config.get_text_config()
    wrong: Exception | None = None
    at = torch.zeros((1, 1), dtype=torch.long, device=embedding.device)
    sights = sights_of(config)
    for masks in masks_of(sights):
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=config)
                model(
                    input_ids=at,
                    attention_mask=masks.make(at, lambda sight: at, embedding.dtype),
                    position_ids=at,
                    use_cache=True,
                    **{kv_argument(model): cache},
                )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model may fail in any way at what it was not made for
            wrong = error
            continue
        shapes = map(_shape, cache.layers, sights)
        return tuple(shapes) or _no_cache(), masks
    raise Unfit("it cannot be given a mask and positions for every row") from wrong


def _shape(layer: Any, sight: LayerSight) -> LayerShape:
    if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
        raise Unfit(f"it has layers with {_kind(layer)}")
    keys, values = layer.keys, layer.values
    if keys is None or values is None:
        _no_cache()
    if keys.shape != values.shape:
        raise Unfit("its keys and values have different sizes")
    if keys.shape[2] != 1:
        raise Unfit("it caches something else than a key and a value a token")
    return LayerShape(keys.shape[1], keys.shape[3], keys.dtype, keys.device, sight)


def _kind(layer: Any) -> str:
    return "a recurrent state" if isinstance(layer, LinearAttentionLayer) else "an index"


def _no_cache() -> NoReturn:
    raise Unfit("it fills no cache of keys and values")
