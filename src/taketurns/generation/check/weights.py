"""A model's size and memory, from the headers of its weights; torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from taketurns.checkpoints.safetensors_metadata import (
    TensorInfo,
    read_adapter_tensors,
    read_gguf_tensors,
    read_tensors,
)
from taketurns.types import ModelSpec

# Bytes per number of a linear layer after quantisation, with its share of the scales.
_BYTES_QUANTISED = {"load_in_4bit": 0.5 + 4 / 64, "load_in_8bit": 1.0}
_BYTES_QUANTO = {"int8": 1.0, "float8": 1.0, "int4": 0.5 + 8 / 128, "int2": 0.25 + 8 / 128}
_BYTES_TORCHAO = {"Int8": 1.0, "Float8": 1.0, "Int4": 0.5 + 8 / 128}
# Packages that quantised weights need besides transformers: the module and its name for pip.
_QUANTISERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "awq": ("gptqmodel", "gptqmodel"),
    "hqq": ("hqq", "hqq"),
}
_NOT_LINEAR = ("embed", "wte", "wpe", "lm_head")


def model_tensors(spec: ModelSpec) -> list[TensorInfo] | None:
    """The headers of a model's weights, without its adapter; None if there are none to read.
    Raises ConfigError for damaged headers."""
    if spec.gguf_file is not None:
        return read_gguf_tensors(spec)
    return read_tensors(spec.model, spec.revision)


def weight_bytes(spec: ModelSpec) -> int | None:
    """The bytes of the weights as stored, from their headers; None if unknown. Raises ConfigError
    for damaged headers."""
    tensors = model_tensors(spec)
    return sum(tensor.stored_bytes for tensor in tensors) if tensors else None


def parameters(spec: ModelSpec) -> int | None:
    """The number of parameters, an adapter's included, from the headers of the weights; None if
    unknown. Raises ConfigError for damaged headers."""
    of_model = model_tensors(spec)
    of_adapter = read_adapter_tensors(spec.adapter) if spec.adapter else None
    if not of_model:
        return None
    return sum(tensor.numbers for tensor in [*of_model, *(of_adapter or [])])


def loaded_bytes(
    tensors: Sequence[TensorInfo], spec: ModelSpec, itemsize: int, *, stored: bool
) -> int:
    """The bytes of the weights once loaded. Weights `stored` in quantised form stay so; others are
    converted to the precision of `spec`, with `itemsize` bytes per number. For unknown methods of
    quantisation the result is the stored size, which is an upper limit."""
    linear = None if stored else _bytes_quantised(spec)
    if spec.quantization_config is not None and linear is None and not stored:
        return sum(tensor.stored_bytes for tensor in tensors)
    size = 0.0
    for tensor in tensors:
        matrix = len(tensor.shape) == 2 and not any(word in tensor.name for word in _NOT_LINEAR)
        if not tensor.floating:
            size += tensor.stored_bytes
        else:
            size += tensor.numbers * (linear if linear is not None and matrix else itemsize)
    return int(size)


def _bytes_quantised(spec: ModelSpec) -> float | None:
    """The bytes per number of a linear layer after quantisation; None if not known."""
    settings = spec.quantization_config or {}
    if settings.get("quant_method") == "quanto":
        return _BYTES_QUANTO.get(settings.get("weights", "int8"))
    if settings.get("quant_method") == "torchao":
        kind = str(settings.get("quant_type"))
        return next((size for key, size in _BYTES_TORCHAO.items() if f"{key}Weight" in kind), None)
    return next((size for key, size in _BYTES_QUANTISED.items() if settings.get(key)), None)


def missing_package(quantised: Any) -> str | None:
    """The package to install for loading weights quantised like this; None if it is there."""
    settings = quantised if isinstance(quantised, Mapping) else quantised.to_dict()
    method = settings.get("quant_method")
    if method is None:
        method = "bitsandbytes" if any(map(settings.get, _BYTES_QUANTISED)) else ""
    module, package = _QUANTISERS.get(str(getattr(method, "value", method)), ("", ""))
    try:
        return package if module and find_spec(module) is None else None
    except ModuleNotFoundError:  # the parent package is missing
        return package


def kv_numbers(config: Any) -> int:
    """The number of values in one token's keys and values in one layer."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:  # it has no attention
        return 0
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * kv_heads * width)
