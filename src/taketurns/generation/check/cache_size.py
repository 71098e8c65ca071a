"""What an answer's cache takes in a model, before the model is loaded."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from taketurns.engines.local.kv import probe
from taketurns.engines.local.masks import has_states, sights_of
from taketurns.engines.local.memory import CacheSize
from taketurns.engines.local.plain_forward import Unfit
from taketurns.engines.local.states import StatePool
from taketurns.generation.check.weights import kv_numbers


def cache_size(config: Any, dtype: torch.dtype, deterministic: bool, elastic: bool) -> CacheSize:
    """What an answer's cache takes, by the configuration. A model with states is built without
    weights and asked what it caches; if that fails, only keys and values are counted."""
    text = config.get_text_config()
    layers, states = _keys(text, dtype.itemsize), 0
    if has_states(text):
        try:
            with torch.device("meta"):
                model_class = AutoModelForCausalLM._model_mapping[type(config)]
                model = model_class._from_config(deepcopy(config), dtype=dtype).eval()
            shape, _ = probe(model)
        except Exception:  # a model may do anything with its weights
            pass
        else:
            layers = tuple((layer.sight.size, layer.bytes_per_token) for layer in shape.layers)
            states = StatePool(shape.states).bytes_per_answer
    return CacheSize(layers, states, deterministic, elastic)


def _keys(config: Any, size: int) -> tuple[tuple[int, int], ...]:
    """The window of each layer, and the bytes of a token's keys and values, of `size` bytes each
    number. Layers that look in a way that no lane has are counted as if they looked at all."""
    try:
        windows = [sight.size for sight in sights_of(config) if sight is not None]
    except Unfit:
        windows = [0] * config.num_hidden_layers
    return tuple((window, kv_numbers(config) * size) for window in windows)
