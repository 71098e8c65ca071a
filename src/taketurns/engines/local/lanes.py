"""Lanes: keys and values of many answers in a few tensors, of one model or of several on one base.

While a model writes, a row of its batch is a lane. The lanes in use come first, so a forward reads
them as a view, without a copy. Between its turns an answer rests in its lane, behind those in use;
when its turn comes it changes places with another. So a token's keys and values exist once, and a
model that goes on with the same answers copies nothing. Where there is no room for another lane,
the answer that has rested longest moves out into a segment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Cache

from taketurns.engines.local.lane_plan import LanePlan
from taketurns.engines.local.lane_tensors import SPARE, LaneTensors, LayerShape, cells_of
from taketurns.engines.local.masks import LayerSight
from taketurns.engines.local.parked import Filled, Parked, Segment
from taketurns.engines.local.reclaimable import is_elastic
from taketurns.engines.local.states import Snapshots, StateCache, StatePool, StateShape
from taketurns.errors import CapacityError

GROWTH = 256
ADDRESSES = 8  # where lanes are elastic, addresses for so many times the memory


@dataclass(slots=True, eq=False)
class _Lane:
    """Whose lane it is, what is in it (as in `Filled`), and when it was left last."""

    owner: weakref.ref[Parked]
    tokens: int = 0
    extent: int = 0
    left: int = 0

    @property
    def filled(self) -> Filled:
        return Filled(self.tokens, self.extent)

    def fill(self, tokens: int, extent: int) -> None:
        """Say what is in the lane."""
        self.tokens, self.extent = tokens, extent


@dataclass(frozen=True, slots=True)
class _Room:
    """How many lanes to have, and how long. `anew`: when all answers have moved out."""

    lanes: int
    length: int
    anew: bool = False


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a model caches: the keys and values of each layer, and the states that layers have
    beside or instead of them."""

    layers: tuple[LayerShape, ...]
    states: tuple[StateShape, ...] = ()

    @property
    def attends(self) -> bool:
        """Whether any layer has keys."""
        return any(layer.heads for layer in self.layers)


class LanePool(StateCache, Cache):  # type: ignore[misc]  # transformers has no types
    """The lanes of a runner; the first `running` are in use. Their tensors never take more than
    `max_bytes` (None: no limit), temporary copies while growing included. What a forward reads is
    `rounded` up. `plan` is what the next forward writes and reads; then the pool is passed to the
    model as its cache.

    `elastic`: tensors take memory only where something is written. Then it is `bytes_used` that is
    limited, by who is admitted, and the tensors have addresses for more."""

    def __init__(self, shape: CacheShape) -> None:
        super().__init__(layers=[])
        self.states = StatePool(shape.states)
        self.max_bytes: int | None = None
        self.elastic = all(is_elastic(layer.device) for layer in shape.layers)
        self.running = 0
        self.shapes = shape.layers
        self._rounded: Callable[[int], int] = _same
        self._tensors = LaneTensors(self.shapes, 0, 0, _same)
        self._lanes: list[_Lane | None] = []
        self._clock = count(1)
        self._plan: LanePlan | None = None

    # How much there is

    @property
    def lanes(self) -> int:
        """How many lanes there are, used or not."""
        return self._tensors.lanes

    @property
    def length(self) -> int:
        """The positions of a lane, of which the last is scratch."""
        return self._tensors.length

    @property
    def nbytes(self) -> int:
        """The memory that the lanes take."""
        return self.bytes_used if self.elastic else self._tensors.nbytes + self.states.nbytes

    @property
    def bytes_used(self) -> int:
        """The bytes of the keys, values and states in the lanes."""
        filled = (lane.filled for lane in self._lanes if lane is not None)
        return sum(map(self._tensors.bytes_used, filled)) + self.states.nbytes

    def round_by(self, rounded: Callable[[int], int]) -> None:
        """Round up by another rule what forwards read. All lanes are freed."""
        self._rounded = rounded
        self.clear()

    def holds(self, tokens: int) -> bool:
        """Whether the limit allows one answer of `tokens` tokens."""
        if self.max_bytes is None:
            return True
        cells = ((cells_of(s.sight.size, tokens + 1, self._rounded), s) for s in self.shapes)
        keys = sum(count * shape.bytes_per_token for count, shape in cells)
        return keys + self.states.bytes_per_answer <= self.max_bytes

    def fits(self, more: int, length: int) -> bool:
        """Whether there can be `more` lanes in use, all of `length` positions."""
        least = self.running + more
        return self._room(least, least, length, length) is not None

    def enter(
        self, answers: Sequence[tuple[Parked, int]], length: int, longest: int, padding: int = 0
    ) -> None:
        """Put each of these answers into the next lane, with the keys and values of so many of its
        tokens. Lanes get `length` positions at least, and up to `longest` where that costs nothing.
        There are `padding` lanes more if they can be had. Raises CapacityError."""
        self._reserve([parked for parked, _ in answers], length, longest, padding)
        first = self.running
        self.states.reserve(first + len(answers) + padding, first)
        sources = [self._source(parked) for parked, _ in answers]
        for parked, _ in answers:
            self._enter(parked)
        for (parked, known), source in zip(answers, sources, strict=True):
            if source is not None and source is not parked:
                self._fill(parked, known, source)
        # Only now, since a fork may be filled from another of these answers.
        for place, (parked, known) in enumerate(answers, first):
            del parked.tokens[known:]
            if self.states:
                snapshots = parked.snapshots or Snapshots()
                snapshots.truncate(known)
                self.states.load(place, snapshots.at(known))
            lane = self._at(place)
            # Only in a ring does what was beyond matter: it was written over other tokens.
            lane.fill(known, lane.extent if self._tensors.ringed else known)

    def _reserve(self, entering: Sequence[Parked], length: int, longest: int, padding: int) -> None:
        self.sweep()
        resting = [place for place in self._resting() if self._at(place).owner() not in entering]
        least = self.running + len(entering)
        total = least + max(len(resting), padding)
        room = self._room(least, total, length, longest)
        if room is None:
            raise CapacityError(
                f"no memory for {least} lanes of {length} tokens: lower max_tokens or "
                "engine.max_batch, or raise engine.memory"
            )
        resting.sort(key=lambda place: self._at(place).left)
        for place in resting[: max(0, least + len(resting) - room.lanes)]:
            self._move_out(place)
        if room.anew:
            for place in self._resting():
                self._move_out(place)
            self.clear()
        if (room.lanes, room.length) != (self.lanes, self.length):
            self._resize(room.lanes, room.length)

    def _room(self, least: int, total: int, length: int, longest: int) -> _Room | None:
        """How many lanes to have, and how long. As it is if that is enough for `total` lanes; else
        more than that, to avoid growing again soon; else as many as the limit allows. None if it
        does not even allow the `least`."""
        many = [self.lanes, total, least]
        if total > self.lanes:
            many = [max(total, min(2 * self.lanes, self.lanes + 32)), total, self.lanes, least]
        long = [self.length]
        if length > self.length:
            longer = -(-length // GROWTH) * GROWTH
            if self.elastic:
                longer = max(length, min(2 * self.length, longest))
            long = [longer, length]
        for lanes, positions in product(many, long):
            same = (lanes, positions) == (self.lanes, self.length)
            if lanes >= least and (same or self._allowed(lanes, positions)):
                return _Room(lanes, positions)
        if not self.running and self._allowed(least, length, anew=True):
            return _Room(least, length, anew=True)
        return None

    def _allowed(self, lanes: int, length: int, anew: bool = False) -> bool:
        if self.max_bytes is None:
            return True
        layers = [
            lanes * cells_of(shape.sight.size, length, self._rounded) * shape.bytes_per_token
            for shape in self.shapes
        ]
        if self.elastic:
            return lanes == 1 or sum(layers) <= ADDRESSES * self.max_bytes
        old = self._tensors.nbytes if any(self._lanes) and not anew else 0
        # While a layer is copied it exists twice.
        keys = max(sum(layers), old) + min(max(layers), old)
        return keys + self.states.peak(lanes, self.running) <= self.max_bytes

    # Who has which lane

    def known(self, parked: Parked, prompt: Sequence[int]) -> int:
        """How many leading tokens of the prompt need not be encoded again."""
        common, holder = parked.common(prompt), parked.holder
        if self.states:
            common = parked.snapshots.before(common) if parked.snapshots is not None else 0
        if holder is None:
            return 0
        extent = self._filled(holder).extent
        for shape in self.shapes:
            # A ring that went on past the common tokens may have lost some that they look at.
            size = self._rounded(shape.sight.size + SPARE) if shape.sight.size else extent
            if extent > size and extent - common > size - shape.sight.size:
                return 0
        return common

    def _enter(self, parked: Parked) -> None:
        place = self.running
        if parked.lane is None:
            if self._lanes[place] is not None:
                self._move(place, self._free())
            parked.segment = parked.origin = None
            self._put(place, _Lane(weakref.ref(parked)))
        elif parked.lane != place:
            self._swap(parked.lane, place)
        self.running += 1

    def _source(self, parked: Parked) -> Parked | Segment | None:
        """Where the keys and values of an answer are: with whom in a lane, or in which segment."""
        holder = parked.holder
        return holder if holder is None or holder.lane is not None else holder.segment

    def _fill(self, parked: Parked, known: int, source: Parked | Segment) -> None:
        """Copy the first `known` tokens into the answer's lane."""
        place = parked.lane
        assert place is not None, "it has just entered"
        if isinstance(source, Segment):
            filled = Filled(known, source.filled.extent)
            self._tensors.load(place, source, filled)
        else:
            assert source.lane is not None, "answers in lanes were not moved out since"
            filled = Filled(known, self._at(source.lane).extent)
            self._tensors.copy(source.lane, place, filled)
        self._at(place).fill(filled.tokens, filled.extent)

    def leave(self, place: int, tokens: Sequence[int]) -> None:
        """Let the answer of a lane rest, with `tokens` encoded. The last lane in use takes its
        place."""
        lane = self._at(place)
        parked = lane.owner()
        if parked is not None:
            parked.tokens = list(tokens)
        lane.fill(len(tokens), max(lane.extent, len(tokens)))
        lane.left = next(self._clock)
        self.running -= 1
        if place != self.running:
            self._swap(place, self.running)
            self.states.move(self.running, place)

    def sweep(self) -> None:
        """Free the lanes of answers that are gone."""
        for place, lane in enumerate(self._lanes):
            if lane is not None and lane.owner() is None and place >= self.running:
                self._lanes[place] = None
                self._tensors.discard(place, lane.filled)
        if not any(self._lanes):
            self.clear()

    def clear(self) -> None:
        """Free all lanes. Their answers lose what was encoded."""
        for lane in self._lanes:
            if lane is not None and (parked := lane.owner()) is not None:
                parked.clear()
        self.running = 0
        self.states.clear()
        self._lanes = []
        self._tensors = LaneTensors(self.shapes, 0, 0, self._rounded)

    def wipe(self, place: int) -> None:
        """Set a lane to 0."""
        lane = self._at(place)
        self._tensors.wipe(place, Filled(lane.extent, lane.extent))
        self.states.wipe(place)
        lane.fill(0, 0)

    def _move(self, source: int, target: int) -> None:
        """Move an answer to a free lane."""
        lane = self._at(source)
        self._tensors.copy(source, target, lane.filled)
        self._tensors.discard(source, lane.filled)
        self._lanes[source] = None
        self._put(target, lane)

    def _swap(self, one: int, other: int) -> None:
        """Exchange two lanes, of which the second may be free."""
        if self._lanes[other] is None:
            self._move(one, other)
            return
        first, second = self._at(one), self._at(other)
        self._tensors.swap(one, other, (first.filled, second.filled))
        self._put(one, second)
        self._put(other, first)

    def _move_out(self, place: int) -> None:
        """Put a resting answer into a segment."""
        lane = self._at(place)
        if (parked := lane.owner()) is not None:
            parked.segment = self._tensors.save(place, lane.filled)
            parked.lane = None
        self._lanes[place] = None
        self._tensors.discard(place, lane.filled)

    def _resize(self, lanes: int, length: int) -> None:
        for place in range(lanes, len(self._lanes)):
            if self._lanes[place] is not None:
                self._move(place, self._free())
        self._lanes = [*self._lanes[:lanes], *[None] * (lanes - len(self._lanes))]
        kept = {place: lane.filled for place, lane in enumerate(self._lanes) if lane is not None}
        self._tensors = LaneTensors(
            self.shapes, lanes, length, self._rounded, old=self._tensors, kept=kept
        )

    def _put(self, place: int, lane: _Lane) -> None:
        self._lanes[place] = lane
        if (parked := lane.owner()) is not None:
            parked.lane = place

    def _at(self, place: int) -> _Lane:
        lane = self._lanes[place]
        assert lane is not None, "the lane is free"
        return lane

    def _free(self) -> int:
        """A free lane behind those in use."""
        return self._lanes.index(None, self.running)

    def _resting(self) -> list[int]:
        return [p for p in range(self.running, len(self._lanes)) if self._lanes[p] is not None]

    def _filled(self, holder: Parked) -> Filled:
        if holder.lane is not None:
            return self._at(holder.lane).filled
        assert holder.segment is not None, "a holder has a lane or a segment"
        return holder.segment.filled

    # What a forward does with them

    def plan(
        self,
        first: int,
        lengths: Sequence[int],
        positions: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        visible: int,
        lowest: int = 0,
    ) -> None:
        """Select the lanes from `first` for the next forward, after which the first of them have
        `lengths` tokens; for the rest see `LanePlan`."""
        for place, length in enumerate(lengths, first):
            lane = self._at(place)
            lane.fill(length, max(length, lane.extent))
        self._plan = LanePlan(first, positions, ends, visible, self.length - 1, lowest)

    def keys(self, sight: LayerSight) -> Tensor:
        """The positions of the keys that layers with this sight are shown: `[1 or rows, keys]`."""
        return self._planned.keys(sight, self._tensors.ring_of(sight))

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Called by the model's attention: write the new keys and values `[rows, heads, tokens,
        dim]` and return all that attention may read. Rows beyond the plan are padding."""
        plan, ring = self._planned, self._tensors.rings[layer_idx]
        data = self._tensors.layer(layer_idx)[:, plan.first : plan.first + plan.rows]
        shape = self.shapes[layer_idx]
        keys, values = data[0, ..., : shape.dim], data[1, ..., : shape.value_dim]
        cells = plan.written(ring, data.device)
        key_states, value_states = key_states[: plan.rows], value_states[: plan.rows]
        if isinstance(cells, slice):
            keys[:, :, cells] = key_states
            values[:, :, cells] = value_states
        else:
            row = torch.arange(plan.rows, device=data.device)[:, None]
            keys[row, :, cells] = key_states.transpose(1, 2)
            values[row, :, cells] = value_states.transpose(1, 2)
        read = plan.read(shape.sight, ring)
        return keys[:, :, read], values[:, :, read]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Called only by models that derive positions themselves; here positions are always
        given."""
        return self._plan.visible if self._plan is not None else 0

    @property
    def _planned(self) -> LanePlan:
        assert self._plan is not None, "plan() before every forward"
        return self._plan


def _same(number: int) -> int:
    return number
