"""A forward as a model's own code runs it: no mask and no positions of ours, so it is what every
other way of running the model is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What models call the cache that they make and return.
CACHES = ("past_key_values", "cache_params", "state")


class Unfit(Exception):
    """Why a model cannot be run in some way: a clause that goes on after "since"."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A cache of the model's own kind and the argument by which it is handed back."""

    name: str
    cache: Any


@dataclass(frozen=True, slots=True)
class Seen:
    """Float32 logits `[1, tokens, vocabulary]`, a hidden state `[1, d]` of the last token a layer
    where asked for, and what the model carries on."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    carried: Carried | None = None


class PlainForward:
    """Runs one text at a time. `activate` runs before each call: it puts the right adapter on
    weights that several models share."""

    def __init__(self, model: Any, activate: Callable[[], None] | None = None) -> None:
        self.model = model
        self.activate = activate
        self.device = model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def __call__(
        self,
        ids: Sequence[int],
        *,
        carried: Carried | None = None,
        carries: bool = False,
        hidden: bool = False,
    ) -> Seen:
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
        after = _carried(result, carried) if carries else None
        states = hidden_states(result) if hidden else ()
        return Seen(result.logits.float(), tuple(state[:, -1].float() for state in states), after)


def hidden_states(result: Any) -> tuple[Tensor, ...]:
    """Of all layers `[rows, tokens, d]`, the embedding first. Raises Unfit."""
    states: tuple[Tensor, ...] | None = getattr(result, "hidden_states", None)
    if not states:
        raise Unfit("it returns no hidden states")
    return states


def _carried(result: Any, handed: Carried | None) -> Carried:
    for name in CACHES:
        if (cache := getattr(result, name, None)) is not None:
            return Carried(name, cache)
    if handed is None:
        raise Unfit("it returns no cache")
    return handed
