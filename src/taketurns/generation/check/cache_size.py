"""What an answer's cache takes in a model, before the model is loaded."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from taketurns.engines.local.kv import probe
from taketurns.engines.local.masks import has_states
from taketurns.engines.local.memory import Footprint
from taketurns.engines.local.states import StatePool
from taketurns.generation.check.weights import kv_numbers


def footprint(config: Any, dtype: torch.dtype) -> Footprint:
    """The bytes that an answer's cache takes, by the configuration. A model with states is built
    without weights and asked what it caches; if that fails, only keys and values are counted."""
    text = config.get_text_config()
    keys = Footprint(kv_numbers(text) * dtype.itemsize)
    if not has_states(text):
        return keys
    try:
        with torch.device("meta"):
            model_class = AutoModelForCausalLM._model_mapping[type(config)]
            model = model_class._from_config(deepcopy(config), dtype=dtype).eval()
        shape, _ = probe(model)
    except Exception:  # a model may do anything with its weights
        return keys
    per_token = sum(layer.bytes_per_token for layer in shape.layers)
    return Footprint(per_token, StatePool(shape.states).bytes_per_answer)
