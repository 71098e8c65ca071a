"""Shapes of some 30M parameters: those of `benchmarks.windows`, and hybrids with the same
dimensions, whose layers keep a state of fixed size or the last few columns of a convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from transformers import FalconH1Config, Lfm2Config, Qwen3_5TextConfig, Qwen3NextConfig

from benchmarks.windows.measure import MIXED, SIZE
from benchmarks.windows.measure import SHAPES as WINDOWS

REFERENCE = "Llama"
Shapes = Mapping[str, Callable[[], Any]]
Kind = Literal["full", "windows", "hybrid"]

AT_MOST: Mapping[Kind, float | None] = {"full": None, "windows": 1.1, "hybrid": 1.3}
"""What a shape's ratio is to reach, divided by the reference's."""

_LINEAR = [layer.replace("sliding", "linear") for layer in MIXED]
_GATED: dict[str, Any] = {
    "head_dim": 64,
    "layer_types": _LINEAR,
    "linear_num_key_heads": 8,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}
_HYBRIDS: Shapes = {
    "Qwen 3.5": lambda: Qwen3_5TextConfig(**SIZE, **_GATED),
    # A quarter of the experts' weights at a time: as many active ones as the Llama has.
    "Qwen3-Next": lambda: Qwen3NextConfig(
        **SIZE,
        **_GATED,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=352,
        shared_expert_intermediate_size=704,
    ),
    "LFM2": lambda: Lfm2Config(
        **SIZE, layer_types=[layer.replace("sliding_attention", "conv") for layer in MIXED],
        block_auto_adjust_ff_dim=False,
    ),
    "Falcon-H1": lambda: FalconH1Config(
        **SIZE, mamba_d_ssm=512, mamba_n_heads=8, mamba_d_head=64, mamba_d_state=64,
        mamba_chunk_size=64,
    ),
}  # fmt: skip
SHAPES: Shapes = {**WINDOWS, **{name: _HYBRIDS[name] for name in _HYBRIDS if name not in WINDOWS}}


def kind_of(config: Any) -> Kind:
    """What the layers of a configuration look at: all tokens, windows, or a state."""
    layers = set(getattr(config, "layer_types", None) or ())
    if layers - {"full_attention", "sliding_attention", "chunked_attention"}:
        return "hybrid"
    windowed = layers - {"full_attention"} or (
        not layers and getattr(config, "sliding_window", None)
    )
    return "windows" if windowed else "full"
