"""A linear layer on a router's last hidden state, which gives one logit for each candidate.

On disk it is one file, `routing.safetensors`, beside the router's own weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taketurns.checkpoints import hub
from taketurns.errors import ConfigError, EngineError
from taketurns.switchers.candidate_order import permutation

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "taketurns.routing/1"
WEIGHTS = "routing.safetensors"
_ABOUT = "routing"
_OTHERS = ": name these candidates, or train a router for the team with taketurns train"


@dataclass(frozen=True, slots=True)
class RoutingHead:
    """`weight` `[candidates, d]` and `bias` `[candidates]` for a state `[d]`, both float32."""

    candidates: tuple[str, ...]
    weight: Tensor
    bias: Tensor

    def probabilities(self, state: Tensor) -> tuple[float, ...]:
        """One probability for each candidate. Raises ConfigError for a state of another size than
        in training, EngineError for NaN or infinity."""
        if len(state) != self.weight.shape[1]:
            raise ConfigError(
                f"the routing head expects a state of {self.weight.shape[1]} numbers, but this "
                f"router has {len(state)}: use the router that was trained with it"
            )
        logits = self.weight @ state + self.bias
        if not logits.isfinite().all():
            raise EngineError("the routing head gave NaN or infinity for the router's state")
        return tuple(logits.softmax(-1).tolist())

    def ordered(self, names: Sequence[str]) -> RoutingHead:
        """The same head for the candidates in another order. Raises ConfigError if the names
        differ."""
        at = permutation(self.candidates, names, "router", _OTHERS)
        return RoutingHead(tuple(names), self.weight[at], self.bias[at])

    def save(self, folder: Path) -> None:
        """Write the file."""
        from safetensors.torch import save_file

        # One key: safetensors writes several in no fixed order, and equal heads have equal bytes.
        about = json.dumps({"schema": SCHEMA, "candidates": self.candidates})
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        save_file(tensors, folder / WEIGHTS, metadata={_ABOUT: about})

    @classmethod
    def load(cls, source: str) -> RoutingHead:
        """Read a head from a folder or a hub id. Raises ConfigError."""
        from safetensors import SafetensorError, safe_open

        path = hub.fetch("the router", source, WEIGHTS)
        if path is None:
            raise ConfigError(
                f"cannot load the router {source!r}: it has no {WEIGHTS}; name a folder that "
                "taketurns train --switcher fusionroute wrote"
            )
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})[_ABOUT])
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
                head = cls(tuple(about["candidates"]), weight, bias)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ConfigError(
                f"cannot read the routing head {path} ({error!r}): name a folder that taketurns "
                "train --switcher fusionroute wrote"
            ) from error
        if (schema := about.get("schema")) != SCHEMA:
            raise ConfigError(
                f"{path} has the schema {schema!r} and not {SCHEMA!r}: name a folder that "
                "taketurns train --switcher fusionroute wrote"
            )
        if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
            raise ConfigError(f"{path} holds NaN or infinity: train the router again")
        return head
