"""Storage of keys and values.

There are two places, each with half of the memory. While a model writes, a row of its batch is a
*lane* of a `LanePool`: one tensor `[2, lanes, heads, length, dim]` per layer, with lanes dense from
0, so a forward reads the keys of consecutive lanes as a view, without a copy. Between its turns an
answer is *parked*: a `Parked` holds exactly the encoded tokens, in immutable segments, one per
turn. Parking copies only the turn's tokens; a fork shares the segments; memory is freed by dropping
a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.masks import FULL, LayerSight, Masks, masks_of, sights_of
from taketurns.engines.local.plain_forward import Unfit, kv_argument
from taketurns.engines.local.states import Kind, Snapshots, StateCache, StatePool, StateShape
from taketurns.errors import CapacityError

# Attentions that support any mask. The flash kernels support only padding.
MASKED = frozenset({"sdpa", "eager", batch_invariant.NAME})
GROWTH = 256
JOINED = 64  # segments up to this length in tokens are joined, so that short turns need few


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


def probe(model: Any) -> tuple[CacheShape, Masks]:
    """What a model caches, and the masks that it takes, found out with one token. Raises Unfit if
    its cache cannot be appended to lane by lane: states outside the cache, no cache at all,
    positions or an attention that do not go by a mask such as lanes need."""
    config = model.config.get_text_config()
    sights = sights_of(config)
    attention = model.config._attn_implementation
    if attention not in MASKED and any(sights):
        raise Unfit(f"its attention, {attention}, supports only padding masks")
    embedding = model.get_input_embeddings().weight
    wrong: Exception | None = None
    for masks in masks_of(sights):
        at = torch.zeros((1, 1), dtype=torch.long, device=embedding.device)
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=config)
                model(
                    input_ids=at,
                    use_cache=True,
                    **masks.arguments(at, 1, embedding.dtype),
                    **{kv_argument(model): cache},
                )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model may fail in any way at what it was not made for
            wrong = error
            continue
        return _cached(cache.layers, sights, embedding), masks
    raise Unfit("it cannot be given a mask and positions for every row") from wrong


def _cached(
    layers: Sequence[Any], sights: Sequence[LayerSight | None], embedding: Tensor
) -> CacheShape:
    empty = LayerShape(0, 0, 0, embedding.dtype, embedding.device)
    keys: list[LayerShape] = []
    states: list[StateShape] = []
    for place, (layer, sight) in enumerate(zip(layers, sights, strict=True)):
        if type(layer) not in (*_STATES, *_KEYS, DummyLayer):
            raise Unfit(f"it has layers with {_kind(layer)}")
        if type(layer) in _STATES:
            states.extend(_states(place, layer))
        keys.append(_keys(layer, sight or FULL) if type(layer) in _KEYS else empty)
    shape = CacheShape(tuple(keys), tuple(states))
    return shape if states or shape.attends else _no_cache()


_HYBRID = (LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer)
_STATES = (LinearAttentionLayer, *_HYBRID)
_KEYS = (DynamicLayer, DynamicSlidingWindowLayer, *_HYBRID)


def _keys(layer: Any, sight: LayerSight) -> LayerShape:
    keys, values = layer.keys, layer.values
    if keys is None or values is None:
        _no_cache()
    heads, tokens, dim = keys.shape[1:]
    if values.shape[1:-1] != (heads, tokens) or tokens != 1:
        raise Unfit("it caches something else than a key and a value a token")
    return LayerShape(heads, dim, values.shape[-1], keys.dtype, keys.device, sight)


def _states(place: int, layer: Any) -> list[StateShape]:
    kinds: dict[Kind, dict[int, Tensor | None]] = {
        "conv": layer.conv_states,
        "recurrent": layer.recurrent_states,
    }
    found = [
        StateShape((place, kind, index), tuple(state.shape[1:]), state.dtype, state.device)
        for kind, states in kinds.items()
        for index, state in states.items()
        if state is not None
    ]
    if not found:
        raise Unfit("it keeps a state outside its cache")
    return found


def _kind(layer: Any) -> str:
    name = getattr(layer, "_layer_type", None)
    return "an index" if name is None else str(name).replace("_", " ")


def _no_cache() -> NoReturn:
    raise Unfit("it fills no cache of keys and values")


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys and values of consecutive tokens: a `[2, heads, tokens, dim]` tensor per layer."""

    layers: tuple[Tensor, ...]

    @property
    def tokens(self) -> int:
        return int(self.layers[0].shape[2])

    def joined(self, other: Segment) -> Segment:
        """This segment and the next one as one segment."""
        pairs = zip(self.layers, other.layers, strict=True)
        return Segment(tuple(torch.cat(pair, 2) for pair in pairs))

    def head(self, tokens: int) -> Segment:
        """A copy of the first `tokens`; a view would keep the memory of all tokens."""
        return Segment(tuple(layer[:, :, :tokens].clone() for layer in self.layers))


class Parked:
    """The tokens of one answer that one model has encoded: their ids, keys and values, and of a
    model with states their `snapshots`."""

    def __init__(
        self,
        tokens: Sequence[int] = (),
        segments: Sequence[Segment] = (),
        snapshots: Snapshots | None = None,
    ) -> None:
        self.tokens = list(tokens)
        self.segments = list(segments)
        self.snapshots = snapshots

    def common(self, prompt: Sequence[int]) -> int:
        """The number of leading tokens of `prompt` from which a model can go on, never including
        its last: those that are encoded, for a model with states up to the last snapshot."""
        encoded = self.encoded(prompt)
        return encoded if self.snapshots is None else self.snapshots.before(encoded)

    def encoded(self, prompt: Sequence[int]) -> int:
        """The number of leading tokens of `prompt` that are encoded, never including its last."""
        limit = min(len(self.tokens), len(prompt) - 1)
        if self.tokens[:limit] == list(prompt[:limit]):
            return limit
        return next(i for i in range(limit) if self.tokens[i] != prompt[i])

    def truncate(self, tokens: int) -> None:
        """Drop everything after the first `tokens` tokens."""
        kept: list[Segment] = []
        room = tokens
        for segment in self.segments:
            if room <= 0:
                break
            kept.append(segment if segment.tokens <= room else segment.head(room))
            room -= segment.tokens
        self.segments = kept
        del self.tokens[tokens:]
        if self.snapshots is not None:
            self.snapshots.truncate(tokens)

    def extend(self, tokens: Sequence[int], segment: Segment) -> None:
        """Add newly encoded tokens at the end."""
        self.tokens.extend(tokens)
        if self.segments and self.segments[-1].tokens + segment.tokens <= JOINED:
            segment = self.segments.pop().joined(segment)
        self.segments.append(segment)

    def fork(self) -> Parked:
        """A copy that shares the segments and snapshots, which never change."""
        snapshots = None if self.snapshots is None else self.snapshots.fork()
        return Parked(self.tokens, self.segments, snapshots)

    def clear(self) -> None:
        self.tokens, self.segments, self.snapshots = [], [], None


class LanePool(StateCache, Cache):  # type: ignore[misc]  # transformers has no types
    """The lanes of one model. They never take more than `max_bytes` (None: no limit), temporary
    copies while growing included. `plan` selects consecutive lanes for a forward; the pool is then
    passed to the model as its cache. States are in `states`.

    The last position of every lane is scratch: padding tokens write there, and no mask shows it.
    """

    def __init__(self, shape: CacheShape) -> None:
        super().__init__(layers=[])
        self.max_bytes: int | None = None
        self.states = StatePool(shape.states)
        self.bytes_per_token = sum(layer.bytes_per_token for layer in shape.layers)
        self._shapes = shape.layers
        self._largest = max(layer.bytes_per_token for layer in shape.layers)
        self._data: list[Tensor] = []
        self.lanes = 0
        self.length = 0
        self._plan: _Plan | None = None

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._data) + self.states.nbytes

    def fits(self, lanes: int, length: int, kept: int) -> bool:
        """Whether `reserve` can make this room."""
        return self._room(lanes, length, kept) is not None

    def reserve(self, lanes: int, length: int, kept: int) -> None:
        """Make room for `lanes` lanes of `length` positions, the scratch included. The first `kept`
        lanes keep their content; the others lose it. Raises CapacityError."""
        room = self._room(lanes, length, kept)
        if room is None:
            raise CapacityError(
                f"no memory for {lanes} lanes of {length} tokens: lower max_tokens or "
                "engine.max_batch, or raise engine.memory"
            )
        if room == (self.lanes, self.length):
            return
        lanes, length = room
        both = min(length, self.length)
        if not kept:
            self.clear()
        for place, shape in enumerate(self._shapes):  # one by one, so only one layer exists twice
            layer = torch.zeros(
                (2, lanes, shape.heads, length, shape.width), dtype=shape.dtype, device=shape.device
            )
            if kept:
                layer[:, :kept, :, :both] = self._data[place][:, :kept, :, :both]
                self._data[place] = layer
            else:
                self._data.append(layer)
        self.states.reserve(lanes, kept)
        self.lanes, self.length = lanes, length

    def clear(self) -> None:
        """Free all lanes."""
        self._data = []
        self.states.clear()
        self.lanes = self.length = 0

    def _room(self, lanes: int, length: int, kept: int) -> tuple[int, int] | None:
        """The lanes and length to allocate: the current ones if they suffice, else more than
        requested, to avoid growing again soon, if the limit allows it. None if not even the
        requested room is allowed."""
        more = max(lanes, min(2 * self.lanes, self.lanes + 32)) if lanes > self.lanes else 0
        longer = -(-length // GROWTH) * GROWTH if length > self.length else 0
        roomy = (more or self.lanes, longer or self.length)
        for room in (roomy, (lanes, roomy[1]), (lanes, length)):
            if room == (self.lanes, self.length) or self._allowed(*room, kept):
                return room
        return None

    def _allowed(self, lanes: int, length: int, kept: int) -> bool:
        if self.max_bytes is None:
            return True
        new, old = lanes * length, self.lanes * self.length
        copied = min(new, old) * self._largest if kept else 0
        most = max(new, old if kept else 0) * self.bytes_per_token + copied
        return most + self.states.peak(lanes, kept) <= self.max_bytes

    def load(self, lane: int, parked: Parked) -> None:
        """Copy a parked answer into a lane."""
        at = 0
        for segment in parked.segments:
            size = segment.tokens
            for data, layer in zip(self._data, segment.layers, strict=True):
                data[:, lane, :, at : at + size] = layer
            at += size
        if self.states:
            kept = parked.snapshots
            self.states.load(lane, None if kept is None else kept.at(len(parked.tokens)))

    def save(self, lane: int, start: int, stop: int) -> Segment:
        """Copy positions `start` to `stop` of a lane out of the pool."""
        return Segment(tuple(data[:, lane, :, start:stop].clone() for data in self._data))

    def wipe(self, lane: int) -> None:
        """Set a lane to 0."""
        for data in self._data:
            data[:, lane].zero_()
        self.states.wipe(lane)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one lane over another."""
        for data in self._data:
            data[:, target, :, :length] = data[:, source, :, :length]
        self.states.move(source, target)

    def plan(self, first: int, positions: Tensor, visible: int, lowest: int = 0) -> None:
        """Select the lanes from `first` for the next forward: `positions` `[rows, tokens]` has the
        position of each new token, of which none that counts is before `lowest`; `visible` is the
        number of positions that attention reads."""
        rows, tokens = positions.shape
        start = int(positions[0, 0])
        single = rows == 1 and int(positions[0, -1]) == start + tokens - 1
        self._plan = _Plan(
            first, rows, visible, start if single else None, start + tokens, positions, lowest
        )

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
        plan = self._plan
        assert plan is not None, "plan() before every forward"
        key_states, value_states = key_states[: plan.rows], value_states[: plan.rows]
        data = self._data[layer_idx][:, plan.first : plan.first + plan.rows]
        shape = self._shapes[layer_idx]
        keys, values = data[0, ..., : shape.dim], data[1, ..., : shape.value_dim]
        if plan.start is not None:
            keys[:, :, plan.start : plan.stop] = key_states
            values[:, :, plan.start : plan.stop] = value_states
        else:
            row = torch.arange(plan.rows, device=data.device)[:, None]
            at = plan.positions.to(data.device)
            keys[row, :, at] = key_states.transpose(1, 2)
            values[row, :, at] = value_states.transpose(1, 2)
        seen = slice(shape.sight.first(plan.lowest), plan.visible)
        return keys[:, :, seen], values[:, :, seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Called only by models that derive positions themselves; here positions are always
        given."""
        return self._plan.visible if self._plan else 0


@dataclass(frozen=True, slots=True)
class _Plan:
    first: int
    rows: int
    visible: int
    start: int | None
    stop: int
    positions: Tensor
    lowest: int
