"""A forward as a model's own code runs it: no mask and no positions of ours, so it is what every
other way of running the model is held against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What models call the cache that they make, return and are handed again. All of transformers' are
# `cache` from 5.24 on; models that come with their own code keep the older names.
CACHES = ("cache", "past_key_values", "cache_params", "state")


class Unfit(Exception):
    """Why a model cannot be run in some way: a clause that goes on after "since"."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A cache of the model's own kind and the argument by which it is handed back."""

    name: str
    cache: Any


@dataclass(frozen=True, slots=True)
class PlainOutput:
    """Float32 logits `[1, tokens, vocabulary]`, a hidden state `[1, d]` of the last token a layer
    where asked for, and what the model carries on."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    carried: Carried | None = None


def cache_arguments(model: Any) -> tuple[str, ...]:
    """Those of `CACHES` that a model's forward names. One that takes any argument and passes it on
    names what the class it is made from does."""
    above = (vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind))
    for forward in (model.forward, *above):
        parameters = inspect.signature(forward).parameters
        if named := tuple(name for name in CACHES if name in parameters):
            return named
    return ()


def kv_argument(model: Any) -> str:
    """The argument by which a model is handed its keys and values."""
    return "cache" if "cache" in cache_arguments(model) else "past_key_values"


class PlainForward:
    """Runs one text at a time. `activate` runs before each call: it puts the right adapter on
    weights that several models share."""

    def __init__(self, model: Any, activate: Callable[[], None] | None = None) -> None:
        self.model = model
        self.activate = activate
        self.device = model.get_input_embeddings().weight.device
        self._cache_arguments = cache_arguments(model)

    @torch.inference_mode()
    def __call__(
        self,
        ids: Sequence[int],
        *,
        carried: Carried | None = None,
        carries: bool = False,
        hidden: bool = False,
    ) -> PlainOutput:
        """Read `ids` after what is `carried`. `carries` asks for a cache to go on from: the one
        that is returned, or the one handed in. Raises Unfit if there is neither, or where hidden
        states are asked for and the model returns none."""
        if self.activate is not None:
            self.activate()
        arguments = {} if carried is None else {carried.name: carried.cache}
        result = self.model(
            input_ids=torch.tensor([list(ids)], device=self.device),
            use_cache=carries,
            output_hidden_states=hidden,
            **arguments,
        )
        after = self._after(result, carried) if carries else None
        states = hidden_states(result) if hidden else ()
        return PlainOutput(
            result.logits.float(), tuple(state[:, -1].float() for state in states), after
        )

    def _after(self, result: Any, handed: Carried | None) -> Carried:
        fields = getattr(result, "__dict__", {})  # an older name is a property, which warns
        for name in CACHES:
            if (cache := fields.get(name)) is not None:
                taken = self._cache_arguments
                return Carried(name if name in taken or not taken else taken[0], cache)
        if handed is None:
            raise Unfit("it returns no cache")
        return handed


def hidden_states(result: Any) -> tuple[Tensor, ...]:
    """Of all layers `[rows, tokens, d]`, the embedding first. Raises Unfit."""
    states: tuple[Tensor, ...] | None = getattr(result, "hidden_states", None)
    if not states:
        raise Unfit("it returns no hidden states")
    return states
