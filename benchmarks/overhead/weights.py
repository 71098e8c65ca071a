"""Weights that are in memory once, shared by all engines and transformers' own generation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch

from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.loading import LoadedModel, Weights, choose_device, choose_dtype
from taketurns.engines.local.worker import SMALL_MODEL
from taketurns.types import ModelSpec


class RandomWeights(Weights):
    """Untrained models by name, made from their seeds at the first use, on their device."""

    def __init__(self, config: Any, seeds: Mapping[str, int], device: str, dtype: str) -> None:
        super().__init__({})
        self._config = config
        self._seeds = dict(seeds)
        self._device = choose_device(device)
        chosen = choose_dtype(dtype, self._device)
        self._dtype = torch.bfloat16 if chosen == "auto" else chosen
        self._models: dict[str, Any] = {}

    def load(self, name: str) -> LoadedModel:
        if name not in self._models:
            self._models[name] = self._make(self._seeds[name])
        return LoadedModel(self._models[name], None)

    def _make(self, seed: int) -> Any:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        with torch.device(self._device):
            model = AutoModelForCausalLM.from_config(deepcopy(self._config), dtype=self._dtype)
        return model.requires_grad_(False).eval()


class GivenWeights(Weights):
    """Models that are already loaded."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        super().__init__({})
        self._models = dict(models)

    def load(self, name: str) -> LoadedModel:
        return LoadedModel(self._models[name], None)


def count_parameters(config: Any) -> int:
    """The number of weights of a model of this configuration; none of them is made."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(deepcopy(config)).num_parameters())


def engine_on(
    weights: Weights, specs: Mapping[str, ModelSpec], *, deterministic: bool = False
) -> LocalEngine:
    """An engine on weights in memory, with the caller's number of threads."""
    threads = torch.get_num_threads()
    return LocalEngine(specs, deterministic=deterministic, threads=threads, weights=weights)


@contextmanager
def use_threads(parameters: int) -> Iterator[None]:
    """Use the number of threads that an engine would choose for models of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if parameters < SMALL_MODEL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def same_attention(models: Iterable[Any]) -> Iterator[None]:
    """Undo the changes of a deterministic engine to a model's attention."""
    before = [(model, model.config._attn_implementation) for model in models]
    try:
        yield
    finally:
        for model, attention in before:
            model.set_attn_implementation(attention)
