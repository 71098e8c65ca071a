"""The tensors of lanes: one of `[2, lanes, heads, cells, width]` per layer, keys before values.

In most layers the cell of a token is its position, and the last cell is scratch. A layer that looks
at a window or a chunk needs no more than that, so once lanes are longer it has a ring: the token at
position p is in the cell p modulo the ring's size, over what was there, with scratch after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taketurns.engines.local.masks import FULL, LayerSight
from taketurns.engines.local.parked import NOTHING, Filled, Segment
from taketurns.engines.local.reclaimable import PAGE, Reclaimable

# Tokens that a ring has beyond its window: so many may be encoded in one forward, and an answer may
# be taken back by so many without being encoded anew.
SPARE = 128


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The keys and values of one layer for one token: `heads` keys of the size `dim`, and as many
    values, of the size `value_dim`; `sight` says which of them the layer looks at. A layer without
    any has 0 heads."""

    heads: int
    dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device
    sight: LayerSight = FULL

    @property
    def width(self) -> int:
        """The size that keys and values are both stored with."""
        return max(self.dim, self.value_dim)

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.heads * self.width * self.dtype.itemsize


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
        self._sizes: Counter[int | None] = Counter()  # bytes of a token, by ring
        for ring, shape in zip(self.rings, shapes, strict=True):
            self._sizes[ring] += shape.bytes_per_token
        self._layers: list[Reclaimable] = []
        for place, shape in enumerate(shapes):
            size = (2, lanes, shape.heads, self.cells(place), shape.width)
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
        return _used(self.rings[place], filled)

    def bytes_used(self, filled: Filled) -> int:
        """The bytes of those cells in all layers."""
        return sum(_used(ring, filled) * size for ring, size in self._sizes.items())

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
        self.discard(one, *filled)
        self.discard(other, filled[1], filled[0])

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

    def wipe(self, lane: int, had: Filled) -> None:
        """Set what a lane `had` to 0, and its scratch."""
        for place in range(len(self._shapes)):
            data = self.layer(place)[:, lane]
            data[:, :, : self.used(place, had)] = 0
            data[:, :, -1] = 0

    def discard(self, lane: int, had: Filled, filled: Filled = NOTHING) -> None:
        """Give back what memory a lane no longer needs, of what it `had`."""
        for place, shape in enumerate(self._shapes):
            first, last = self.used(place, filled), self.used(place, had)
            cells, pages = self.cells(place), self._layers[place]
            if (last - first) * shape.width * shape.dtype.itemsize < PAGE:
                continue
            for side in range(2):
                head = (side * self.lanes + lane) * shape.heads
                if not first:  # the whole lane at once
                    stop = (head + shape.heads) * cells * shape.width
                    pages.discard(head * cells * shape.width, stop)
                    continue
                for row in range(head, head + shape.heads):
                    start = row * cells * shape.width
                    pages.discard(start + first * shape.width, start + last * shape.width)


def _used(ring: int | None, filled: Filled) -> int:
    """The cells with content in a layer with such a ring."""
    return filled.tokens if ring is None else min(filled.extent, ring)
