"""Which cells of some lanes a forward writes and reads."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taketurns.engines.local.masks import LayerSight

NEVER = 2**40  # a position that no token looks at


class LanePlan:
    """A forward over the lanes from `first`. `positions` `[rows, tokens]` are those of its tokens,
    -1 for padding; `ends` say up to which position each lane is then written, of rows beyond those
    too if they are padding. Attention
    reads the first `visible` positions, less those that a token at `lowest` and none after it looks
    at. `scratch` is where padding is written in lanes without a ring."""

    def __init__(
        self,
        first: int,
        positions: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        visible: int,
        scratch: int,
        lowest: int = 0,
    ) -> None:
        self.first = first
        self.rows, self._tokens = positions.shape
        self.visible = visible
        self._positions = torch.from_numpy(positions)
        self._ends = torch.from_numpy(ends)
        self._scratch = scratch
        self._lowest = lowest
        self._written: dict[tuple[int | None, torch.device], slice | Tensor] = {}

    @cached_property
    def _start(self) -> int | None:
        """The position of the first token, if the tokens are those of one lane, without a gap."""
        start = int(self._positions[0, 0])
        whole = self.rows == 1 and start >= 0
        return start if whole else None

    def written(self, ring: int | None, device: torch.device) -> slice | Tensor:
        """The cells of the new tokens in a layer: `[rows, tokens]`, or a slice of one lane."""
        key = ring, device
        if key not in self._written:
            self._written[key] = self._cells(ring, device)
        return self._written[key]

    def _cells(self, ring: int | None, device: torch.device) -> slice | Tensor:
        if self._start is not None:
            start = self._start if ring is None else self._start % ring
            if ring is None or start + self._tokens <= ring:
                return slice(start, start + self._tokens)
        scratch = self._scratch if ring is None else ring
        cells = self._positions if ring is None else self._positions % ring
        return torch.where(self._positions < 0, scratch, cells).to(device)

    def read(self, sight: LayerSight, ring: int | None) -> slice:
        """The cells that attention reads in a layer."""
        if ring is not None and self.visible > ring:
            return slice(0, ring)
        return slice(sight.first(self._lowest), self.visible)

    def keys(self, sight: LayerSight, ring: int | None) -> Tensor:
        """The positions of the tokens in those cells: `[1 or len(ends), keys]`."""
        cells = self.read(sight, ring)
        found = torch.arange(cells.start, cells.stop)[None]
        if ring is None or self.visible <= ring:
            return found
        last = self._ends[:, None] - 1
        held = last - (last - found) % ring
        return torch.where(held < 0, NEVER, held)
