"""Shapes of some 30M parameters: those of `benchmarks.windows`, and one of experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from transformers import Qwen3NextConfig

from benchmarks.windows.measure import DELTA, SIZE
from benchmarks.windows.measure import SHAPES as WINDOWS

REFERENCE = "Llama"
Shapes = Mapping[str, Callable[[], Any]]
Kind = Literal["full", "windows", "hybrid"]

AT_MOST: Mapping[Kind, float | None] = {"full": None, "windows": 1.1, "hybrid": 1.3}
"""What a shape's ratio is to reach, divided by the reference's."""

SHAPES: Shapes = {
    **{name: make for name, make in WINDOWS.items() if name != "Qwen3-Next, dense"},
    # A quarter of the experts' weights at a time: as many active ones as the Llama has.
    "Qwen3-Next": lambda: Qwen3NextConfig(
        **SIZE,
        **DELTA,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=352,
        shared_expert_intermediate_size=704,
    ),
}


def kind_of(config: Any) -> Kind:
    """What the layers of a configuration look at: all tokens, windows, or a state."""
    layers = set(getattr(config, "layer_types", None) or ())
    if layers - {"full_attention", "sliding_attention", "chunked_attention"}:
        return "hybrid"
    windowed = layers - {"full_attention"} or (
        not layers and getattr(config, "sliding_window", None)
    )
    return "windows" if windowed else "full"
