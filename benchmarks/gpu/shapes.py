"""The models of the measurement on a GPU, by name, with any number of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.overhead.models import SHAPES as LLAMAS
from benchmarks.overhead.weights import count_parameters
from benchmarks.overhead.workload import CANDIDATES
from taketurns.errors import CapacityError

WEIGHTS_SHARE = 0.6  # of the free memory; the rest is for keys, values and activations


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's configuration by its number of layers, and how many it has."""

    config: Callable[[int], Any]
    layers: int

    def fitting(self, free: int, bytes_per_weight: int) -> int:
        """The most layers with which the candidates fit into `free` bytes. Raises CapacityError if
        not even one does."""
        one, two = (count_parameters(self.config(layers)) for layers in (1, 2))
        room = WEIGHTS_SHARE * free / (CANDIDATES * bytes_per_weight)
        layers = 1 + int((room - one) // (two - one))
        if layers < 1:
            raise CapacityError(
                f"{CANDIDATES} models of one layer need {CANDIDATES * one * bytes_per_weight:,} "
                f"bytes, and of the {free:,} free ones {WEIGHTS_SHARE:.0%} are for weights"
            )
        return min(self.layers, layers)


def _llama(name: str) -> Shape:
    shape = LLAMAS[name]
    return Shape(lambda layers: replace(shape, layers=layers).config(), shape.layers)


def _olmo3(layers: int) -> Any:
    from transformers import Olmo3Config

    return Olmo3Config(
        hidden_size=4096,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=32,
        intermediate_size=11008,
        vocab_size=100278,
        sliding_window=4096,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


SHAPES: Mapping[str, Shape] = {
    "llama-8b": _llama("8b"),
    "olmo3-7b": Shape(_olmo3, 32),
    "llama-100m": _llama("100m"),
    "llama-13m": _llama("13m"),
    "llama-tiny": _llama("tiny"),
}
ON_GPU = ("llama-8b", "olmo3-7b")
ON_CPU = ("llama-13m",)
