"""Forwards over several texts of different lengths, padded on the left with a mask of the padding,
as in transformers' `generate`. Without padding there is no mask: it is a plain forward of several
rows."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taketurns.engines.local.plain_forward import Carried, PlainForward, hidden_states


@dataclass(frozen=True, slots=True)
class RowOutputs:
    """Float32 logits `[rows, vocabulary]` after the last column; if requested, a hidden state
    `[rows, d]` of that column per layer; and the model's cache."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    carried: Carried | None = None


class PaddedForward:
    """Runs several texts at a time. All but the first columns of a row are its text."""

    def __init__(self, plain: PlainForward) -> None:
        self.plain = plain
        parameters = inspect.signature(plain.model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._keeps_some = "logits_to_keep" in parameters

    @torch.inference_mode()
    def __call__(
        self,
        rows: Sequence[Sequence[int]],
        pads: Sequence[int],
        columns: int,
        *,
        carried: Carried | None = None,
        carries: bool = False,
        hidden: bool = False,
    ) -> RowOutputs:
        """Read the last tokens of each row after the columns in the cache `carried`. The rows, each
        padded to the longest, are the last of `columns`; `pads` are the columns of padding in front
        of each text, the cache's included. `carries` as for `PlainForward`. Raises Unfit."""
        plain = self.plain
        longest = max(map(len, rows))
        ids = [[0] * (longest - len(row)) + list(row) for row in rows]
        arguments = {} if carried is None else {carried.name: carried.cache}
        if any(pads):
            places = torch.arange(columns, device=plain.device)[None]
            starts = torch.tensor(pads, device=plain.device)[:, None]
            arguments["attention_mask"] = (places >= starts).long()
            if self._takes_positions:
                arguments["position_ids"] = (places - starts).clamp_min(0)[:, -longest:]
        if self._keeps_some:
            arguments["logits_to_keep"] = 1
        result = plain.run(ids, carries=carries, hidden=hidden, **arguments)
        states = hidden_states(result) if hidden else ()
        return RowOutputs(
            result.logits[:, -1].float(),
            tuple(state[:, -1].float() for state in states),
            plain.cache_after(result, carried) if carries else None,
        )
