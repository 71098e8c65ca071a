"""The tensors of lanes: one of `[2, lanes, heads, cells, dim]` per layer, keys before values.

In most layers the cell of a token is its position, and the last cell is scratch. A layer that looks
at a window or a chunk needs no more than that, so once lanes are longer it has a ring: the token at
position p is in the cell p modulo the ring's size, over what was there, with scratch after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taketurns.engines.local.masks import FULL, LayerSight
from taketurns.engines.local.parked import Filled, Segment
from taketurns.engines.local.reclaimable import Reclaimable

# Tokens that a ring has beyond its window: so many may be encoded in one forward, and an answer may
# be taken back by so many without being encoded anew.
SPARE = 128


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The keys and values of one layer for one token: `heads` x `dim` keys, and as many values;
    `sight` says which of them the layer looks at. A layer without any has 0 heads."""

    heads: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    sight: LayerSight = FULL

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.heads * self.dim * self.dtype.itemsize


def ring_size(window: int, length: int, rounded: Callable[[int], int]) -> int | None:
    """The cells of the ring of a layer with such a window (0: none) in lanes of `length` positions;
    None where it has none. What a forward reads is rounded up by `rounded`."""
    size = rounded(window + SPARE)
    return size if window and size + 1 < length else None


def cells_of(window: int, length: int, rounded: Callable[[int], int]) -> int:
    """The cells of a lane in such a layer, the scratch included."""
    ring = ring_size(window, length, rounded)
    return length if ring is None else ring + 1


class LaneTensors:
    """Some lanes of `length` positions. Made from `old` ones, they have the content of its lanes
    `kept`; then `old` is emptied layer by layer, so that only one layer exists twice."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        lanes: int,
        length: int,
        rounded: Callable[[int], int],
        *,
        old: LaneTensors | None = None,
        kept: dict[int, Filled] | None = None,
    ) -> None:
        self.lanes, self.length = lanes, length
        self._ring_of = {
            shape.sight: ring_size(shape.sight.size, length, rounded) for shape in shapes
        }
        self.rings = [self._ring_of[shape.sight] for shape in shapes]
        self._shapes = tuple(shapes)
        self._layers: list[Reclaimable] = []
        for place, shape in enumerate(shapes):
            size = (2, lanes, shape.heads, self.cells(place), shape.dim)
            made = Reclaimable(size, shape.dtype, shape.device)
            self._layers.append(made)
            if old is None:
                continue
            for lane, filled in (kept or {}).items():
                used = min(old.used(place, filled), self.used(place, filled))
                made.data[:, lane, :, :used] = old.layer(place)[:, lane, :, :used]
            old._layers[place] = Reclaimable((0,), shape.dtype, shape.device)

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors, whether written or not."""
        return sum(layer.data.nbytes for layer in self._layers)

    @property
    def ringed(self) -> bool:
        """Whether a layer has a ring."""
        return any(ring is not None for ring in self.rings)

    def ring_of(self, sight: LayerSight) -> int | None:
        """The cells of the ring of layers with this sight, None if they have none."""
        return self._ring_of[sight]

    def layer(self, place: int) -> Tensor:
        """The tensor of a layer."""
        return self._layers[place].data

    def cells(self, place: int) -> int:
        """The cells of a lane in a layer, the scratch included."""
        ring = self.rings[place]
        return self.length if ring is None else ring + 1

    def used(self, place: int, filled: Filled) -> int:
        """How many cells of a lane in a layer have content that may be needed."""
        ring = self.rings[place]
        return filled.tokens if ring is None else min(filled.extent, ring)

    def bytes_used(self, filled: Filled) -> int:
        """The bytes of those cells in all layers."""
        return sum(
            self.used(place, filled) * shape.bytes_per_token
            for place, shape in enumerate(self._shapes)
        )

    def copy(self, source: int, target: int, filled: Filled) -> None:
        """Copy a lane over another."""
        for place in range(len(self._shapes)):
            used, data = self.used(place, filled), self.layer(place)
            data[:, target, :, :used] = data[:, source, :, :used]

    def swap(self, one: int, other: int, filled: tuple[Filled, Filled]) -> None:
        """Exchange two lanes with this content."""
        for place in range(len(self._shapes)):
            data = self.layer(place)
            first, second = (self.used(place, content) for content in filled)
            held = data[:, one, :, :first].clone()
            data[:, one, :, :second] = data[:, other, :, :second]
            data[:, other, :, :first] = held
        self.discard(one, filled[1])
        self.discard(other, filled[0])

    def load(self, lane: int, segment: Segment, filled: Filled) -> None:
        """Copy what `filled` says of a segment into a lane."""
        for place, layer in enumerate(segment.layers):
            used = min(self.used(place, filled), layer.shape[2])
            self.layer(place)[:, lane, :, :used] = layer[:, :, :used]

    def save(self, lane: int, filled: Filled) -> Segment:
        """A copy of a lane."""
        layers = (
            self.layer(place)[:, lane, :, : self.used(place, filled)].clone()
            for place in range(len(self._shapes))
        )
        return Segment(tuple(layers), filled)

    def wipe(self, lane: int) -> None:
        """Set a lane to 0."""
        for place in range(len(self._shapes)):
            self.layer(place)[:, lane].zero_()
        self.discard(lane, Filled(0, 0))

    def discard(self, lane: int, filled: Filled) -> None:
        """Give back the memory of a lane beyond its content."""
        for place, shape in enumerate(self._shapes):
            used, cells, pages = self.used(place, filled), self.cells(place), self._layers[place]
            for side in range(2):
                first = (side * self.lanes + lane) * shape.heads
                last = first + shape.heads
                if not used:  # the whole lane at once
                    pages.discard(first * cells * shape.dim, last * cells * shape.dim)
                    continue
                for head in range(first, last):
                    start = (head * cells + used) * shape.dim
                    pages.discard(start, (head + 1) * cells * shape.dim)
