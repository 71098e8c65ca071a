"""The plain forward: the model's own code, without a mask or positions from this package. Every
other way of running the model is compared with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Names of the cache argument. In transformers it is `cache` from 5.24 on; models with their own
# code keep the older names.
CACHES = ("cache", "past_key_values", "cache_params", "state")


class Unfit(Exception):
    """A model cannot be run in some way; the message is a clause that follows "because"."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A cache of the model's own kind, and the name of the argument for it."""

    name: str
    cache: Any


@dataclass(frozen=True, slots=True)
class PlainOutput:
    """Float32 logits `[1, tokens, vocabulary]`; if requested, a hidden state `[1, d]` of the last
    token per layer; and the model's cache."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    carried: Carried | None = None


def cache_arguments(model: Any) -> tuple[str, ...]:
    """The names of `CACHES` that a model's forward has as parameters. If the forward passes on any
    arguments, the forward of its base class counts."""
    above = (vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind))
    for forward in (model.forward, *above):
        parameters = inspect.signature(forward).parameters
        if named := tuple(name for name in CACHES if name in parameters):
            return named
    return ()


def kv_argument(model: Any) -> str:
    """The name of the argument for the cache that a model is handed."""
    names = cache_arguments(model)
    return next((name for name in CACHES if name in names), "past_key_values")


class PlainForward:
    """Runs one text at a time. `activate` runs before each call; it selects the adapter on weights
    that several models share."""

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
        """Read `ids` after the tokens in the cache `carried`. `carries` requests a cache to
        continue from: the returned one, or else the one passed in. Raises Unfit if there is
        neither, or if hidden states are requested and the model returns none."""
        arguments = {} if carried is None else {carried.name: carried.cache}
        result = self.run([list(ids)], carries=carries, hidden=hidden, **arguments)
        after = self.cache_after(result, carried) if carries else None
        states = hidden_states(result) if hidden else ()
        return PlainOutput(
            result.logits.float(), tuple(state[:, -1].float() for state in states), after
        )

    def run(
        self, rows: Sequence[Sequence[int]], *, carries: bool, hidden: bool, **arguments: Any
    ) -> Any:
        """What the model returns for rows of ids, all of one length."""
        if self.activate is not None:
            self.activate()
        return self.model(
            input_ids=torch.tensor(rows, device=self.device),
            use_cache=carries,
            output_hidden_states=hidden,
            **arguments,
        )

    def cache_after(self, result: Any, handed: Carried | None) -> Carried:
        """The cache in a result, or else the one that was `handed` over. Raises Unfit if there is
        neither."""
        fields = getattr(result, "__dict__", {})  # older names are properties, which warn
        for name in CACHES:
            if (cache := fields.get(name)) is not None:
                taken = self._cache_arguments
                return Carried(name if name in taken or not taken else taken[0], cache)
        if handed is None:
            raise Unfit("it returns no cache")
        return handed


def hidden_states(result: Any) -> tuple[Tensor, ...]:
    """The hidden states of all layers, each `[rows, tokens, d]`, the embedding first. Raises
    Unfit if there are none."""
    states: tuple[Tensor, ...] | None = getattr(result, "hidden_states", None)
    if not states:
        raise Unfit("it returns no hidden states")
    return states
