"""Storage of states: the last inputs of short convolutions, and what linear attention and Mamba
layers sum up of all tokens before.

Keys and values grow with a text and can be cut anywhere; a state has one size and holds the text up
to one token. So while a model writes, `StatePool` has the states of each lane in one dense tensor
`[lanes, …]` a state, which the model's own kernels change in place; and a parked answer has
`Snapshots`: copies of its states after a few of its tokens. A prompt that leaves the answer's
tokens goes on from the last snapshot before that place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

KEPT = 3  # snapshots of an answer: where the last turn before began, where the last began and ended
Kind = Literal["conv", "recurrent"]
Place = tuple[int, Kind, int]  # layer, kind, and which of the layer's states of this kind


@dataclass(frozen=True, slots=True)
class StateShape:
    """One state of one layer, for one row."""

    place: Place
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The states of one answer after its first `position` tokens. They never change."""

    position: int
    states: tuple[Tensor, ...]


class Snapshots:
    """The snapshots of one answer in one model, at most `KEPT`, and what is known of where the next
    prompt will leave the tokens that the last one had encoded.

    A prompt whose end is dropped and written anew, as a switcher's question is, leaves them a
    number of tokens before its end, its *tail*. The tail of the last prompt that was only scored,
    and of the last that was continued, is where the next of its kind gets a snapshot."""

    def __init__(self, kept: Sequence[Snapshot] = (), scored: int = 1, continued: int = 0) -> None:
        # The prompt that was scored may come again to be continued, of which its last token is
        # always computed: its logits are needed.
        self.kept = tuple(kept)
        self._tails = {True: scored, False: continued}
        self._last: tuple[bool, int] | None = None

    @property
    def nbytes(self) -> int:
        return sum(state.nbytes for snapshot in self.kept for state in snapshot.states)

    def before(self, tokens: int) -> int:
        """The position of the last snapshot within the first `tokens` tokens; 0 without one."""
        return max((s.position for s in self.kept if s.position <= tokens), default=0)

    def at(self, position: int) -> Snapshot | None:
        return next((s for s in self.kept if s.position == position), None)

    def learn(self, common: int) -> None:
        """The next prompt has `common` leading tokens in common with those that are encoded."""
        if self._last is not None:
            scored, prompt = self._last
            self._tails[scored] = max(0, prompt - common)
            self._last = None

    def tail(self, *, scored: bool) -> int:
        """How many tokens before its end the next prompt of this kind needs a snapshot."""
        return self._tails[scored]

    def truncate(self, tokens: int) -> None:
        """Drop the snapshots after the first `tokens` tokens."""
        self.kept = tuple(s for s in self.kept if s.position <= tokens)

    def extend(self, taken: Sequence[Snapshot], prompt: int, *, scored: bool) -> None:
        """Add snapshots `taken` while a prompt of `prompt` tokens was scored or continued; the
        earliest are dropped for them."""
        self.kept = (*self.kept, *taken)[-KEPT:]
        self._last = (scored, prompt)

    def fork(self) -> Snapshots:
        """A copy that shares the snapshots."""
        copy = Snapshots(self.kept, self._tails[True], self._tails[False])
        copy._last = self._last
        return copy


class StatePool:
    """The states of the lanes of one model, `[lanes, …]` each; empty for a model without states.

    A forward over lanes in a row, without others' lanes among its padding, works on them in place;
    any other works on copies of the rows that it is for, which are written back. `multiple` is what
    the number of rows is rounded up to, for padding."""

    def __init__(self, shapes: Sequence[StateShape] = ()) -> None:
        self._shapes = tuple(shapes)
        self._index = {shape.place: at for at, shape in enumerate(self._shapes)}
        self._data: list[Tensor] = []
        self._rows = 0
        self._reading: _Reading | None = None
        self.multiple = 1
        self.bytes_per_lane = sum(shape.nbytes for shape in self._shapes)

    def __bool__(self) -> bool:
        return bool(self._shapes)

    @property
    def nbytes(self) -> int:
        return sum(state.nbytes for state in self._data)

    @property
    def bytes_per_answer(self) -> int:
        """What one answer may take, parked or in a lane with its padding."""
        return self.bytes_per_lane * max(KEPT + 1, self.multiple)

    def peak(self, lanes: int, kept: int) -> int:
        """The bytes that `reserve` needs at its highest."""
        rows = self._rounded(lanes)
        if rows <= self._rows:
            return self._rows * self.bytes_per_lane
        copied = self._rows * max((s.nbytes for s in self._shapes), default=0) if kept else 0
        return rows * self.bytes_per_lane + copied

    def reserve(self, lanes: int, kept: int) -> None:
        """Make room for `lanes` lanes, of which the first `kept` keep their states."""
        rows = self._rounded(lanes)
        if rows <= self._rows:
            return
        if not kept:
            self.clear()
        for at, shape in enumerate(self._shapes):
            state = torch.zeros((rows, *shape.shape), dtype=shape.dtype, device=shape.device)
            if kept:
                state[:kept] = self._data[at][:kept]
                self._data[at] = state
            else:
                self._data.append(state)
        self._rows = rows

    def _rounded(self, lanes: int) -> int:
        return -(-lanes // self.multiple) * self.multiple

    def clear(self) -> None:
        """Free all lanes."""
        self._data = []
        self._rows = 0
        self._reading = None

    def load(self, lane: int, snapshot: Snapshot | None) -> None:
        """Give a lane the states of a snapshot; None: those before the first token."""
        if snapshot is None:
            self.wipe(lane)
            return
        for data, state in zip(self._data, snapshot.states, strict=True):
            data[lane] = state

    def save(self, lane: int, position: int) -> Snapshot:
        """Copy the states of a lane that has encoded `position` tokens."""
        return Snapshot(position, tuple(data[lane].clone() for data in self._data))

    def wipe(self, lane: int) -> None:
        """Set the states of a lane to 0, what they are before the first token."""
        for data in self._data:
            data[lane].zero_()

    def move(self, source: int, target: int) -> None:
        """Copy the states of one lane over those of another."""
        for data in self._data:
            data[target] = data[source]

    @contextmanager
    def reading(self, first: int, fed: Sequence[int], rows: int, lanes: int) -> Iterator[None]:
        """For one forward of `rows` rows over the lanes from `first`, the next `fed[row]` tokens of
        each, all the same number or none, then padding. `lanes` have states that count."""
        if not self._shapes:
            yield
            return
        end = first + len(fed)
        alone = all(fed) and (rows == len(fed) or lanes <= end) and first + rows <= self._rows
        chosen = None if alone else [row for row, tokens in enumerate(fed) if tokens]
        reading = _Reading(first, rows, chosen, {})
        self._reading = reading
        try:
            yield
        finally:
            self._reading = None
        if chosen is not None:
            lanes_fed = [first + row for row in chosen]
            for at, state in reading.copies.items():
                self._data[at][lanes_fed] = state[chosen]

    def state(self, place: Place) -> Tensor | None:
        """What a forward reads and changes: `[rows, …]`; None if the layer has no such state."""
        reading, at = self._reading, self._index.get(place)
        assert reading is not None, "reading() around every forward"
        if at is None:
            return None
        data = self._data[at]
        if reading.chosen is None:
            return data[reading.first : reading.first + reading.rows]
        if at not in reading.copies:
            copy = data.new_zeros((reading.rows, *data.shape[1:]))
            copy[reading.chosen] = data[[reading.first + row for row in reading.chosen]]
            reading.copies[at] = copy
        return reading.copies[at]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One forward: `rows` lanes from `first` in place, or copies of the `chosen` rows of them."""

    first: int
    rows: int
    chosen: list[int] | None
    copies: dict[int, Tensor]


class StateCache:
    """The methods by which a model's layers reach states in their cache, as transformers has them.
    A lane always has states: 0 before its first token, which is what they are without a cache."""

    states: StatePool

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """The last inputs of a convolution: `[rows, channels, kernel]`."""
        return self.states.state((layer_idx, "conv", state_idx))

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> Tensor:
        """Add inputs `[rows, channels, tokens]`; returns the last ones followed by them."""
        state = self._known((layer_idx, "conv", state_idx))
        inputs = torch.cat((state, conv_states), -1)
        state.copy_(inputs[..., -state.shape[-1] :])
        return inputs

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """The recurrent state of a layer: `[rows, …]`."""
        return self.states.state((layer_idx, "recurrent", state_idx))

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> Tensor:
        """Replace the recurrent state."""
        return self._known((layer_idx, "recurrent", state_idx)).copy_(recurrent_states)

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        """Whether a layer has states."""
        return bool(self.states)

    def is_recording_past(self, layer_idx: int) -> bool:
        """Whether a state may be set back by tokens; it has snapshots for that."""
        return False

    def _known(self, place: Place) -> Tensor:
        state = self.states.state(place)
        if state is None:
            raise KeyError(f"layer {place[0]} has no {place[1]} state {place[2]}")
        return state
